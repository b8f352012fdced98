// A help desk's side of Segue, in Node.
//
// Takes events, verifies each with the official Standard Webhooks library, reads it with the official CloudEvents library,
// drops repeats, keeps each conversation in order, prints one line an interaction and, if it has a token, answers.
//
//   SEGUE_WEBHOOK_SECRET    the `whsec_...` of this help desk in segue.toml (required)
//   SEGUE_URL, SEGUE_TOKEN  where the gateway's API is, and a token with the scope `write`: then customers are answered
//   PORT                    where to listen on 127.0.0.1; 0 takes a free port (default 9000)

import { createServer } from "node:http";
import { HTTP } from "cloudevents";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const MOST_BYTES = 1 << 20;
const { SEGUE_WEBHOOK_SECRET: secret, SEGUE_URL: url, SEGUE_TOKEN: token, PORT: port = "9000" } = process.env;
if (!secret) {
  console.error("set SEGUE_WEBHOOK_SECRET to the secret of this help desk");
  process.exit(1);
}
const webhook = new Webhook(secret);

// A real help desk keeps both in its database, in the transaction that does the work.
const seen = new Set(); // ids of events that were taken
const latest = new Map(); // conversation -> sequence of its latest event

/** Takes an event. Gives whether it is new. */
function take(event, previous) {
  if (seen.has(event.id)) return false;
  const last = latest.get(event.subject);
  // Sequences are digits of one length: they sort as text. `previous` is the event before this one among those that we
  // subscribe to, so the chain shows whether one is missing.
  if (last !== undefined && event.sequence <= last) {
    console.log(`late: ${event.id} is older than what was taken`);
  } else if (last !== undefined && previous && previous !== last) {
    console.log(`gap: ${event.subject} went from ${last} to ${event.sequence}; the feed at /v1/events has the rest`);
  }
  seen.add(event.id);
  if (last === undefined || event.sequence > last) latest.set(event.subject, event.sequence);
  return true;
}

/** Answers the customer by the channel they wrote on. */
async function answer(event, interaction) {
  if (!url || !token || interaction.kind !== "message") return;
  const response = await fetch(`${url}/v1/conversations/${event.subject}/replies`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      // The same event never gives two answers, however often this runs.
      "idempotency-key": `answer-${event.id}`,
    },
    body: JSON.stringify({ text: `We have read: ${interaction.text}` }),
  });
  console.log(`answered ${event.subject}: ${response.status}`);
}

async function read(request) {
  const pieces = [];
  let size = 0;
  for await (const piece of request) {
    size += piece.length;
    if (size > MOST_BYTES) return null;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

async function receive(request) {
  if (request.method !== "POST") return 405;
  const body = await read(request);
  if (body === null) return 413;
  try {
    // Over the bytes as they came: parsing and writing JSON again would break the signature.
    webhook.verify(body, request.headers);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    console.log(`refused: ${error.message}`);
    return 401;
  }
  const event = HTTP.toEvent({ headers: request.headers, body: body.toString("utf8") });
  if (take(event, request.headers["segue-previous-sequence"])) {
    const interaction = event.data.interaction;
    if (interaction) {
      const name = interaction.author.display_name ?? "somebody";
      console.log(`${event.type} ${event.id} ${interaction.channel.kind} ${name}: ${interaction.text}`);
      answer(event, interaction).catch((error) => console.log(`not answered: ${error.message}`));
    }
  }
  return 204;
}

const server = createServer((request, response) => {
  receive(request)
    .catch((error) => {
      console.error(error);
      return 500;
    })
    .then((status) => response.writeHead(status).end());
});
server.listen(Number(port), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/events`);
});
