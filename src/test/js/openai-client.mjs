// Uses the server at argv[2] through the official OpenAI client, unchanged. Prints one line per
// check that holds; the first that does not ends the run.
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: 'unused', maxRetries: 0 });
const messages = [{ role: 'user', content: 'Hi' }];

async function check(name, body) {
  await body();
  console.log(`ok ${name}`);
}

await check('models.list', async () => {
  const ids = [];
  for await (const model of client.models.list()) {
    ids.push(model.id);
  }
  assert.deepEqual(ids, ['base-model', 'pirate', 'haiku']);
  assert.equal((await client.models.retrieve('pirate')).parent, 'base-model');
});

await check('chat', async () => {
  const answer = await client.chat.completions.create({
    model: 'pirate',
    messages: [{ role: 'system', content: [{ type: 'text', text: 'Be brief' }] }, ...messages],
    temperature: 0,
    seed: 7,
  });
  assert.equal(answer.model, 'pirate');
  assert.equal(answer.choices[0].message.role, 'assistant');
  assert.equal(answer.choices[0].message.content, 'Hello, you!');
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.equal(answer.usage.completion_tokens, 11);
});

await check('chat stream', async () => {
  const stream = await client.chat.completions.create({
    model: 'base-model',
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = '';
  let usage = null;
  let finish = null;
  const roles = [];
  for await (const chunk of stream) {
    if (chunk.choices.length > 0) {
      text += chunk.choices[0].delta.content ?? '';
      finish = chunk.choices[0].finish_reason ?? finish;
      if (chunk.choices[0].delta.role) {
        roles.push(chunk.choices[0].delta.role);
      }
    }
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, 'Hello, you!');
  assert.equal(finish, 'stop');
  assert.deepEqual(roles, ['assistant']);
  assert.equal(usage.total_tokens, usage.prompt_tokens + 11);
});

await check('chat stream helper', async () => {
  const runner = client.chat.completions.stream({ model: 'base-model', messages, logprobs: true });
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices[0].message.content, 'Hello, you!');
  assert.equal(final.choices[0].logprobs.content.length, 11);
});

await check('completions', async () => {
  const answer = await client.completions.create({
    model: 'haiku',
    prompt: ['a', 'b'],
    max_tokens: 5,
    logprobs: 2,
    n: 2,
  });
  assert.deepEqual(answer.choices.map((c) => c.text), Array(4).fill('Hello'));
  assert.equal(answer.choices[3].finish_reason, 'length');
  assert.equal(answer.choices[0].logprobs.tokens.join(''), 'Hello');
});

await check('completions stream', async () => {
  const stream = await client.completions.create({
    model: 'base-model',
    prompt: 'x',
    stop: ['you'],
    stream: true,
  });
  let text = '';
  for await (const chunk of stream) {
    text += chunk.choices[0].text;
  }
  assert.equal(text, 'Hello, ');
});

await check('NotFoundError', () =>
  assert.rejects(
    client.chat.completions.create({ model: 'nope', messages }),
    (e) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found',
  ));

await check('BadRequestError', () =>
  assert.rejects(
    client.chat.completions.create({ model: 'base-model', messages, temperature: 'hot' }),
    (e) =>
      e instanceof OpenAI.BadRequestError &&
      e.param === 'temperature' &&
      e.message.includes('temperature must be a number, not a string'),
  ));

// The fake engine knows these prompts.
await check('RateLimitError', () =>
  assert.rejects(
    client.completions.create({ model: 'base-model', prompt: 'overloaded', stream: true }),
    (e) => e instanceof OpenAI.RateLimitError && e.headers.get('retry-after') !== null,
  ));

await check('error mid-stream', async () => {
  const stream = await client.completions.create({
    model: 'base-model',
    prompt: 'breaks',
    stream: true,
  });
  let chunks = 0;
  await assert.rejects(async () => {
    for await (const chunk of stream) {
      chunks += chunk.choices.length;
    }
  }, OpenAI.APIError);
  assert.equal(chunks, 3);
});

await check('abort mid-stream', async () => {
  const stream = await client.completions.create({
    model: 'base-model',
    prompt: 'endless',
    max_tokens: 1000000,
    stream: true,
  });
  let chunks = 0;
  for await (const chunk of stream) {
    chunks += chunk.choices.length;
    if (chunks === 5) {
      stream.controller.abort();
    }
  }
  assert.equal(chunks >= 5, true);
});
