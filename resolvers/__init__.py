"""What each operation does, for whichever door asked. Knows neither Strawberry nor Starlette."""
