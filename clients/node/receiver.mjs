// A receiver as the guides teach it: the library verifies the webhook, then reads the directory's users. Only the address, the key and the
// secret are Rollcall's. It prints its own URL; GET / tells what it has.

import { createServer } from "node:http";
import { client } from "./library.mjs";

const workos = client();
const secret = process.env.WEBHOOK_SECRET;
const people = {};
const refusals = [];

async function webhook(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  try {
    const payload = JSON.parse(Buffer.concat(chunks).toString());
    const webhook = await workos.webhooks.constructEvent({ payload, sigHeader: request.headers["workos-signature"], secret });
    if (webhook.event === "dsync.activated") people[webhook.data.id] = [];
    if (webhook.event.startsWith("dsync.user.")) {
      const { directoryId } = webhook.data;
      const users = await (await workos.directorySync.listUsers({ directory: directoryId })).autoPagination();
      people[directoryId] = users.map((user) => ({ id: user.id, email: user.email, state: user.state, groups: user.groups.map((group) => group.name) }));
    }
    response.writeHead(200).end();
  } catch (error) {
    refusals.push(error.message);
    response.writeHead(400).end();
  }
}

const server = createServer((request, response) => {
  if (request.method === "POST") return webhook(request, response);
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ people, refusals }));
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
