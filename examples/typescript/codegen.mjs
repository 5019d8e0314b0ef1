// Writes src/generated.ts: the types and documents of src/operations.graphql, checked against Hookline's schema.
//
// The three plugins are graphql-codegen's, which its command line would run by a codegen.ts, on 200 packages more. In a
// project of yours keep a copy of the schema, as your server tells it at /graphql/schema.

import { readFileSync, writeFileSync } from "node:fs";
import { codegen } from "@graphql-codegen/core";
import * as fragmentMatcher from "@graphql-codegen/fragment-matcher";
import * as typedDocumentNode from "@graphql-codegen/typed-document-node";
import * as typescriptOperations from "@graphql-codegen/typescript-operations";
import { parse } from "graphql";

const read = (path) => parse(readFileSync(new URL(path, import.meta.url), "utf8"));
const filename = "src/generated.ts";

const generated = await codegen({
  filename,
  schema: read("../../schema/schema.graphql"),
  documents: [{ location: "src/operations.graphql", document: read("src/operations.graphql") }],
  config: {
    strictScalars: true,
    scalars: { Cursor: "string", DateTime: "string", JSON: "unknown" },
    nonOptionalTypename: true, // as Apollo Client asks for it, and what a switch goes by
    skipTypeNameForRoot: true,
    useTypeImports: true,
  },
  plugins: [{ typescriptOperations: {} }, { typedDocumentNode: {} }, { fragmentMatcher: {} }],
  pluginMap: { typescriptOperations, typedDocumentNode, fragmentMatcher },
});
writeFileSync(new URL(filename, import.meta.url), generated);
