import { type DescField, ScalarType } from "@bufbuild/protobuf";
import { Chooser, type World } from "./choose.ts";
import type { Bound, CallSpec } from "./commands.ts";
import { bodyOf, type Call, methods, mutates } from "./decide.ts";
import type { Plain } from "./plain.ts";
import { type Template, templates } from "./templates.ts";

/** Binds a call to what the shop holds now; undefined: there is nothing to do again. Two calls: it is sent twice. */
export function bindCall(spec: CallSpec, world: World): readonly Call[] {
  const call = spec.bind.kind === "fresh" ? bindFresh(spec, spec.bind, world) : bindAgain(spec, spec.bind, world);
  if (call === undefined) return [];
  return spec.twice && call.requestId !== ""
    ? [call, { ...call, door: call.door === "grpc" ? "http" : "grpc" }]
    : [call];
}

function bindFresh(spec: CallSpec, { rpc, picks, bad }: Extract<Bound, { kind: "fresh" }>, world: World): Call {
  const template = templates[rpc] as Template;
  const bound = template.bind(new Chooser(picks), world);
  const broken = bad === undefined ? undefined : breakRule(rpc, bound, bad);
  return identify(spec, world, {
    rpc,
    request: bodyOf(rpc, broken?.request ?? bound),
    ...(broken !== undefined && { badField: broken.field }),
  });
}

function identify(spec: CallSpec, world: World, call: Pick<Call, "rpc" | "request" | "badField">): Call {
  const isMutation = world.history.length === 0 || mutates(call.rpc);
  const { door, toNobody } = spec;
  const base = { ...call, door, ...(toNobody && call.rpc !== "CreateShop" && { toNobody }) };
  if (!isMutation) return { ...base, requestId: "", idBy: "field" };
  const { id } = spec;
  if (id === "none") return { ...base, requestId: "", idBy: "field" };
  if (id === "retried") return { ...base, requestId: "", idBy: "retried" };
  const requestId = id === "stolen" ? stolenId(world) : world.fresh("r");
  return { ...base, requestId, idBy: id === "header" || id === "conflict" ? id : "field" };
}

/** The id of a call that may have taken effect. */
function stolenId({ shop, fresh }: World): string {
  return [...shop.requestIds.keys()].at(-3) ?? fresh("r");
}

function bindAgain(
  spec: CallSpec,
  { pick, isNewId, change }: Extract<Bound, { kind: "again" }>,
  world: World,
): Call | undefined {
  const choose = new Chooser([pick]);
  const sent = world.history.filter(
    ({ rpc, badField, idBy }) => mutates(rpc) && badField === undefined && idBy !== "conflict" && idBy !== "retried",
  );
  const before = choose.recent(sent);
  if (before === undefined) return undefined;
  const request = change === undefined ? before.request : changeRequest(before.request, change);
  return {
    rpc: before.rpc,
    request: bodyOf(before.rpc, request),
    requestId: isNewId ? world.fresh("r") : before.requestId,
    door: spec.door,
    idBy: spec.id === "header" && (isNewId || before.requestId !== "") ? "header" : "field",
  };
}

const texts = ["title", "reference", "payment_reference", "display_name", "reason"];

/** A request that differs in one place and is still well formed. */
function changeRequest(request: Plain, pick: number): Plain {
  const choices: Plain[] = [];
  for (const [name, value] of Object.entries(request)) {
    if (texts.includes(name) && typeof value === "string") choices.push({ [name]: `${value.slice(0, 200)}!` });
    if (name === "lines") {
      const lines = value as readonly Plain[];
      const [first, ...rest] = lines;
      const quantity = Math.max(1, (((first?.quantity as number | undefined) ?? 1) + 1) % 1_000_000);
      choices.push({ lines: [{ ...first, quantity }, ...rest] });
      if (rest.length > 0) choices.push({ lines: rest });
    }
    if (name === "user_id" && value !== "") choices.push({ user_id: value === "u0" ? "u1" : "u0" });
    if (name === "amount_minor" || name === "credits") choices.push({ [name]: value === 1 ? 2 : 1 });
    if (name === "payment_method") choices.push({ payment_method: value === 3 ? 1 : 3 });
    if (name === "currency_code") choices.push({ currency_code: value === "USD" ? "EUR" : "USD" });
  }
  return choices.length === 0 ? request : { ...request, ...choices[pick % choices.length] };
}

/** Breaks a rule of one field; undefined when the request has no field for it. */
function breakRule(
  rpc: string,
  request: Plain,
  pick: number,
): { readonly request: Plain; readonly field: string } | undefined {
  const fields = methods.get(rpc)?.method.input.fields ?? [];
  const choices = fields.flatMap((field) => badValues(field).map((value) => ({ field: field.name, value })));
  if ("lines" in request)
    choices.push(
      ...[0, 1_000_001].map((quantity) => ({ field: "lines[0].quantity", value: [{ sku: "s0", quantity }] })),
    );
  const chosen = choices[pick % choices.length];
  if (chosen === undefined) return undefined;
  const { field, value } = chosen;
  return { request: { ...request, [field.replace(/\[.*/, "")]: value }, field };
}

/** What the rules of a field forbid. Ids of shop and request are left alone. */
function badValues({ name, fieldKind, scalar, message, enum: enumeration }: DescField): unknown[] {
  if (name === "shop_id" || name === "request_id" || fieldKind === "list") return [];
  if (enumeration !== undefined) return [99];
  if (message?.typeName === "google.protobuf.Duration") return [0, 86_400_001, -1000];
  if (message?.typeName === "google.protobuf.Timestamp") return [-1000];
  if (scalar === ScalarType.INT64) return name === "delta_count" ? [0, 2 ** 53, -(2 ** 53)] : [2 ** 53, -1];
  if (scalar === ScalarType.INT32) return [-1];
  if (scalar !== ScalarType.STRING) return [];
  if (name === "page_token" || name === "quote_token") return ["x".repeat(1025)];
  if (["title", "reference", "payment_reference", "display_name", "reason", "email"].includes(name))
    return ["a\u0000b", "x".repeat(257)];
  if (name === "currency_code") return ["usd", ""];
  return ["a b", "x".repeat(65)];
}
