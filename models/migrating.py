"""A migration's operation that Tortoise lacks."""

from tortoise.migrations import operations as ops
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_generator.state import State


class AddFilledField(ops.AddField):
    """Adds a column that may not be null to a table that has rows.

    Tortoise's AddField leaves the field's default to Python, so on PostgreSQL it fails as soon as there is a row.
    `column` is the SQL of the new column, for both databases: `VARCHAR(20) NOT NULL DEFAULT 'native'`.
    """

    def __init__(self, model_name: str, name: str, field: ops.FieldLike, column: str) -> None:
        super().__init__(model_name, name, field)
        self.column = column

    async def database_forward(
        self, app_label: str, old_state: State, new_state: State, state_editor: BaseSchemaEditor | None = None
    ) -> None:
        if state_editor is not None:
            table = new_state.apps.get_model(f"{app_label}.{self.model_name}")._meta.db_table
            await state_editor._run_sql(f"ALTER TABLE {table} ADD COLUMN {self.name} {self.column}")
