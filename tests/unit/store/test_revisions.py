"""What is known of the schema's revisions without Alembic is what Alembic would say."""

from importlib import resources

from alembic.config import Config
from alembic.script import ScriptDirectory
from buildgrid_scheduler.store.revisions import MIGRATIONS, head_revision, known_revisions


def test_the_revisions_are_those_that_alembic_follows_in_this_order() -> None:
    config = Config()
    config.set_main_option("script_location", str(resources.files(MIGRATIONS)))
    scripts = ScriptDirectory.from_config(config)
    assert known_revisions() == tuple(script.revision for script in scripts.walk_revisions())[::-1]
    assert head_revision() == scripts.get_current_head()
