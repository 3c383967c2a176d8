// The library under test, and where its versions differ from the API's words.
//
// LIBRARY is workos-11, workos-10 or workos-7; LIBRARIES the folder they are installed in; ROLLCALL_URL and ROLLCALL_API_KEY the server.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { LIBRARY, LIBRARIES, ROLLCALL_URL, ROLLCALL_API_KEY } = process.env;

export const library = createRequire(`${LIBRARIES}/`)(LIBRARY);
export const version = Number(LIBRARY.split("-")[1]);

// A client as an application makes it; only the address and the key are Rollcall's.
export function client(apiKey = ROLLCALL_API_KEY) {
  const { hostname, port } = new URL(ROLLCALL_URL);
  return new library.WorkOS(apiKey, { apiHostname: hostname, port: Number(port), https: false });
}

// Parameters that this library's methods do not send; a question with one of them is left out.
const NOT_SENT = {
  directories: ["domain"],
  users: [],
  groups: [],
  events: [],
};

const CAMEL = { organization_id: "organizationId", range_start: "rangeStart", range_end: "rangeEnd" };

export function offers(kind, parameters) {
  return Object.keys(parameters).every((name) => !NOT_SENT[kind].includes(name));
}

// Lists through the library's own method; `parameters` are in the API's words.
export function list(workos, kind, parameters) {
  const camel = kind === "directories" || kind === "events";
  const options = Object.fromEntries(Object.entries(parameters).map(([name, value]) => [camel ? (CAMEL[name] ?? name) : name, value]));
  switch (kind) {
    case "directories":
      return workos.directorySync.listDirectories(options);
    case "users":
      return workos.directorySync.listUsers(options);
    case "groups":
      return workos.directorySync.listGroups(options);
    case "events":
      return workos.events.listEvents(options);
  }
}

export function get(workos, kind, id) {
  switch (kind) {
    case "directory":
      return workos.directorySync.getDirectory(id);
    case "user":
      return workos.directorySync.getUser(id);
    case "group":
      return workos.directorySync.getGroup(id);
  }
}

// Keys that the library's objects do not have, by the kind of object.
const DROPPED = {
  directory_user: version >= 10 ? ["name", "emails", "job_title", "username"] : ["name"],
  directory_group: ["object"],
  event: version >= 10 ? ["object"] : ["object", "context"],
};

// Values below these keys are passed on as they came.
const AS_SENT = ["raw_attributes", "custom_attributes", "previous_attributes", "context", "domains", "emails", "role", "roles"];

const camelCase = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

// Sees that the library's object says what the API's object says.
export function says(seen, expected, because) {
  assert.deepEqual(part(seen, expected), inItsWords(expected), because);
}

// Over REST a directory's state has other names in this library; in events it has not.
export function shown(directory) {
  return { ...directory, state: { linked: "active", unlinked: "inactive" }[directory.state] ?? directory.state };
}

function inItsWords(expected) {
  if (Array.isArray(expected)) return expected.map(inItsWords);
  if (expected === null || typeof expected !== "object") return expected;
  const kept = Object.entries(expected).filter(([name]) => !DROPPED[expected.object]?.includes(name));
  return Object.fromEntries(kept.map(([name, value]) => [camelCase(name), AS_SENT.includes(name) ? value : inItsWords(value)]));
}

// What `seen` has under the keys of `expected`.
function part(seen, expected) {
  if (Array.isArray(expected)) return Array.isArray(seen) && seen.length === expected.length ? seen.map((item, at) => part(item, expected[at])) : seen;
  if (expected === null || typeof expected !== "object" || seen === null || typeof seen !== "object") return seen;
  const kept = Object.entries(expected).filter(([name]) => !DROPPED[expected.object]?.includes(name));
  return Object.fromEntries(kept.map(([name, value]) => [camelCase(name), AS_SENT.includes(name) ? seen[camelCase(name)] : part(seen[camelCase(name)], value)]));
}

export const lines = (path) => readFileSync(path, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));

// Runs `call`, which must fail; its error.
export async function failure(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  assert.fail(`it should have failed: ${call}`);
}
