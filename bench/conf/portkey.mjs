// Portkey's gateway on Node 20 answers JSON with "TypeError: immutable", for it adds headers to what fetch gave it. Here they may be added.
const fetched = globalThis.fetch;
globalThis.fetch = async (...request) => {
  const answer = await fetched(...request);
  return new Response(answer.body, { status: answer.status, headers: answer.headers });
};
