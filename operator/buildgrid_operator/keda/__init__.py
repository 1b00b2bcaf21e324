"""What autoscalers are told of BotFleets: KEDA by its own protocol, others through Prometheus; one number."""
