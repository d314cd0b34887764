// What an application does with the official client. Prints "ok NAME" for each step; throws otherwise.
//   node smoke.mjs http://127.0.0.1:8000/v1
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'none', maxRetries: 0 });
const done = (name) => console.log(`ok ${name}`);

const models = await client.models.list();
const model = models.data[0].id;
assert.equal(typeof model, 'string');
done('models');

const messages = [{ role: 'user', content: 'Hello' }];
const chat = await client.chat.completions.create({ model, messages, max_tokens: 16, temperature: 0 });
assert.equal(chat.choices[0].message.role, 'assistant');
assert.equal(typeof chat.choices[0].message.content, 'string');
assert.ok(chat.usage.prompt_tokens > 0);
assert.ok(chat.usage.prompt_tokens_details.cached_tokens >= 0);
done('chat');

let text = '';
let usage = null;
const stream = await client.chat.completions.create({
  model, messages, max_tokens: 16, temperature: 0, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? '';
  usage = chunk.usage ?? usage;
}
assert.equal(text, chat.choices[0].message.content);
assert.equal(usage.completion_tokens, chat.usage.completion_tokens);
done('chat stream');

const helper = client.chat.completions.stream({ model, messages, max_tokens: 16, temperature: 0 });
assert.equal(await helper.finalContent(), text);
done('chat stream helper');

const completion = await client.completions.create({ model, prompt: 'Once upon', max_tokens: 8, n: 2, logprobs: 1 });
assert.equal(completion.choices.length, 2);
assert.equal(completion.choices[0].logprobs.tokens.length, completion.choices[0].logprobs.token_logprobs.length);
done('completion');

let pieces = '';
for await (const chunk of await client.completions.create({ model, prompt: 'Once', max_tokens: 8, stream: true })) {
  pieces += chunk.choices[0].text;
}
assert.ok(pieces.length > 0);
done('completion stream');

await assert.rejects(
  client.chat.completions.create({ model, messages, temperature: 1000 }),
  (error) => error instanceof OpenAI.BadRequestError && error.param === 'temperature');
await assert.rejects(
  client.chat.completions.create({ model: 'other', messages }),
  (error) => error instanceof OpenAI.NotFoundError && error.code === 'model_not_found');
done('errors');

const aborted = await client.chat.completions.create({ model, messages, max_tokens: 2000, stream: true });
for await (const chunk of aborted) {
  if (chunk.choices[0].delta.content) break; // closes the connection
}
done('abort');
