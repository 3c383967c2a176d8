// Every error as the library's own exception: its class, its message, and the request's id where the library reads it.

import assert from "node:assert/strict";
import { client, failure, library, version } from "./library.mjs";

const { BadRequestException, GenericServerException, NotFoundException, UnauthorizedException, UnprocessableEntityException } = library;
const workos = client();

function is(error, exception, status, message) {
  assert.ok(error instanceof exception, `${exception.name} was expected, and this came: ${error.stack}`);
  assert.equal(error.status, status);
  assert.equal(error.message, message);
  // Versions before 11 look for the header where it never is, and have no id.
  if (version >= 11) assert.match(error.requestID, /^req_[0-9a-f]{16}$/);
}

assert.ok(BadRequestException, "the library exports its exceptions");

is(
  await failure(() => client("sk_wrong").directorySync.listDirectories()),
  UnauthorizedException,
  401,
  "Could not authorize the request. Maybe your API key is invalid?",
);

for (const [call, kind] of [
  [() => workos.directorySync.getDirectory("nobody"), "Directory"],
  [() => workos.directorySync.getUser("nobody"), "Directory User"],
  [() => workos.directorySync.getGroup("nobody"), "Directory Group"],
]) {
  const error = await failure(call);
  is(error, NotFoundException, 404, `${kind} not found: 'nobody'.`);
  assert.equal(error.code, "entity_not_found");
}

for (const [call, first, second] of [
  [() => workos.directorySync.listUsers({}), "directory", "group"],
  [() => workos.directorySync.listGroups({}), "directory", "user"],
]) {
  const rule = `Please provide either "${first}" or "${second}" parameters.`;
  const error = await failure(call);
  is(error, UnprocessableEntityException, 422, `The following requirements must be met:\n\t${rule}\n\t${rule}\n`);
  assert.equal(error.code, "validation_failed");
}

const limit = await failure(() => workos.directorySync.listDirectories({ limit: 101 }));
is(limit, UnprocessableEntityException, 422, "The following requirement must be met:\n\tit must be a whole number from 1 to 100\n");

is(await failure(() => workos.post("/directories", {})), GenericServerException, 405, "method not allowed");
