import { defineConfig } from "prisma/config";

export default defineConfig({
  schema: "../../schema.prisma",
  // Nothing connects: Prisma checks the schema and calls our generator; migrations are Alembic's.
  datasource: { url: "postgresql://unused" },
});
