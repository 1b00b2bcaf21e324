"""What the asset service is asked to keep (Remote Asset API)."""

from buildgrid_scheduler.assets.client import AssetClient

__all__ = ["AssetClient"]
