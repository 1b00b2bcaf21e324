"""The operator: Scheduler, PropertySet and BotFleet objects of Kubernetes become running build farms."""
