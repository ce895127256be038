// Schemas in a form that people read, and a first body that fits one.

// A type inside a type inside a type is a name.
const DEPTH = 5;

/** What a reference stands for. */
export function resolved(doc, thing) {
  if (!thing?.$ref) return thing;
  return thing.$ref.slice(2).split("/").reduce((found, name) => found?.[name], doc);
}

const nameOf = (schema) => schema.$ref?.split("/").pop();

/** `{ id: string, nodes: [string] }`, with what is said of each field. */
export function shape(doc, schema, depth = 0) {
  if (schema === true || schema === undefined) return "any";
  const name = nameOf(schema);
  if (name && depth >= DEPTH) return name;
  const found = resolved(doc, schema);
  const parts = found.anyOf ?? found.oneOf;
  if (parts) return [...new Set(parts.map((part) => shape(doc, part, depth)))].join(" | ");
  if (found.const !== undefined) return JSON.stringify(found.const);
  if (found.enum) return found.enum.map((value) => JSON.stringify(value)).join(" | ");
  const types = [found.type ?? "any"].flat();
  return types.map((type) => ofType(doc, found, type, depth)).join(" | ");
}

function ofType(doc, schema, type, depth) {
  if (type === "array") return `[${shape(doc, schema.items, depth)}]`;
  if (type !== "object" || !schema.properties) return bounds(schema, type);
  const indent = "  ".repeat(depth + 1);
  const needed = new Set(schema.required ?? []);
  const lines = Object.entries(schema.properties).map(([key, value]) => {
    const about = value.description ?? (value.$ref ? "" : resolved(doc, value)?.description);
    const said = about ? about.split("\n").map((line) => `${indent}// ${line}\n`).join("") : "";
    return `${said}${indent}${key}${needed.has(key) ? "" : "?"}: ${shape(doc, value, depth + 1)}`;
  });
  if (lines.length === 0) return "{}";
  return `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
}

function bounds({ minimum, maximum }, type) {
  if (type !== "integer" && type !== "number") return type;
  if (maximum === undefined || maximum > Number.MAX_SAFE_INTEGER) return type;
  return `${type} ${minimum ?? ""}…${maximum}`;
}

/** The least that fits. */
export function example(doc, schema) {
  const found = resolved(doc, schema);
  if (found === true || found === undefined) return {};
  if (found.examples) return found.examples[0];
  if (found.default !== undefined) return found.default;
  if (found.const !== undefined) return found.const;
  if (found.enum) return found.enum[0];
  const part = (found.anyOf ?? found.oneOf)?.[0];
  if (part) return example(doc, part);
  switch ([found.type].flat()[0]) {
    case "object": {
      const needed = (found.required ?? []).map((key) => [key, example(doc, found.properties[key])]);
      return Object.fromEntries(needed);
    }
    case "array": return [];
    case "integer":
    case "number": return found.minimum ?? 0;
    case "boolean": return false;
    default: return "";
  }
}
