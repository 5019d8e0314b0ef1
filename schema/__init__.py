"""GraphQL: types, inputs, result unions, loaders, limits. `schema.graphql` is printed from here."""
