// The Node SDKs of OpenAI and Anthropic and the Vercel AI SDK, against BASE_URL with every model of MODELS.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";

const base = process.env.BASE_URL ?? "http://127.0.0.1:18100";
const apiKey = process.env.API_KEY ?? "sk-acceptance";
const models = (process.env.MODELS ?? "standin").split(" ");

const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: base, apiKey, maxRetries: 0 });
const vercelOpenAI = createOpenAI({ baseURL: `${base}/v1`, apiKey });
const vercelAnthropic = createAnthropic({ baseURL: `${base}/v1`, apiKey });

const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const call = 'CALL:get_weather {"city": "Oslo"}';
const ask = (content) => [{ role: "user", content }];

for (const model of models) {
  test(`openai: chat, whole and streamed [${model}]`, async () => {
    const answer = await openai.chat.completions.create({ model, messages: ask("SAY:hello"), max_tokens: 64 });
    assert.equal(answer.choices[0].message.content, "hello");
    let text = "";
    const stream = await openai.chat.completions.create({ model, messages: ask("SAY:one two three"), max_tokens: 64, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
    assert.equal(text, "one two three");
  });

  test(`openai: a tool run to its end [${model}]`, async () => {
    const get_weather = { name: "get_weather", description: "weather", parameters: schema, parse: JSON.parse, function: ({ city }) => `rain in ${city}` };
    const runner = openai.chat.completions.runTools({ model, messages: ask(call), max_tokens: 64, tools: [{ type: "function", function: get_weather }] });
    assert.equal(await runner.finalContent(), "DONE:rain in Oslo");
  });

  test(`openai: responses, streamed with a tool [${model}]`, async () => {
    const stream = openai.responses.stream({ model, input: call, tools: [{ type: "function", name: "get_weather", strict: false, parameters: schema }] });
    const first = await stream.finalResponse();
    const item = first.output.find((i) => i.type === "function_call");
    assert.deepEqual(JSON.parse(item.arguments), { city: "Oslo" });
    const input = [...ask(call), ...first.output.map(({ parsed_arguments, ...rest }) => rest), { type: "function_call_output", call_id: item.call_id, output: "rain" }];
    const second = await openai.responses.create({ model, input });
    assert.equal(second.output_text, "DONE:rain");
  });

  test(`anthropic: messages, whole and streamed [${model}]`, async () => {
    const message = await anthropic.messages.create({ model, max_tokens: 64, messages: ask("SAY:hello") });
    assert.equal(message.content[0].text, "hello");
    assert.equal(await anthropic.messages.stream({ model, max_tokens: 64, messages: ask("SAY:one two three") }).finalText(), "one two three");
  });

  test(`anthropic: a tool round trip in streams [${model}]`, async () => {
    const tools = [{ name: "get_weather", input_schema: schema }];
    const first = await anthropic.messages.stream({ model, max_tokens: 64, messages: ask(call), tools }).finalMessage();
    const use = first.content.find((block) => block.type === "tool_use");
    assert.deepEqual(use.input, { city: "Oslo" });
    const result = { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "rain" }] };
    const messages = [...ask(call), { role: "assistant", content: first.content }, result];
    assert.equal(await anthropic.messages.stream({ model, max_tokens: 64, messages, tools }).finalText(), "DONE:rain");
  });

  for (const [dialect, name] of [["chat", vercelOpenAI.chat(model)], ["responses", vercelOpenAI.responses(model)], ["anthropic", vercelAnthropic(model)]]) {
    test(`ai: text, stream, tool and object over ${dialect} [${model}]`, async () => {
      const settings = { model: name, maxRetries: 0, maxOutputTokens: 256 };
      assert.equal((await generateText({ ...settings, prompt: "SAY:hello" })).text, "hello");
      let text = "";
      for await (const part of streamText({ ...settings, prompt: "SAY:one two three" }).textStream) text += part;
      assert.equal(text, "one two three");
      const get_weather = tool({ inputSchema: z.object({ city: z.string() }), execute: async ({ city }) => `rain in ${city}` });
      const told = await generateText({ ...settings, prompt: call, tools: { get_weather }, stopWhen: stepCountIs(3) });
      assert.match(told.text, /^DONE:.*rain in Oslo/);
      const made = await generateObject({ ...settings, prompt: "a place", schema: z.object({ name: z.string(), people: z.number() }) });
      assert.deepEqual(made.object, { name: "x", people: 7 });
    });
  }
}
