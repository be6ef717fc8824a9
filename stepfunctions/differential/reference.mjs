// Runs state machines in npm's aws-local-stepfunctions, an interpreter that
// Keyturn had no part in: `node reference.mjs <folder with node_modules>`.
//
// One JSON request a line in, one JSON trace a line out (differential_test.go
// has both types). Tasks are answered from the request; time is
// virtual, so that what would be slept is recorded and not waited for.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

// Node 22 has it; the Node of Debian doesn't.
Promise.withResolvers ??= function () {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};
// FULL jitter then draws the longest delay.
Math.random = () => 1 - Number.EPSILON / 2;

class VirtualTime {
  now = 0;
  last = 0;
  timers = new Map();
  slept = [];

  setTimeout = (fire, ms) => {
    this.timers.set(++this.last, { due: this.now + ms, ms, fire });
    return this.last;
  };

  clearTimeout = (id) => this.timers.delete(id);

  // fireNext ends the shortest sleep; false if nobody sleeps.
  fireNext() {
    let next;
    for (const [id, timer] of this.timers) {
      if (next === undefined || timer.due < this.timers.get(next).due) next = id;
    }
    if (next === undefined) return false;
    const { due, ms, fire } = this.timers.get(next);
    this.timers.delete(next);
    this.now = due;
    this.slept.push(ms);
    fire();
    return true;
  }
}

function named(name, cause) {
  return Object.assign(new Error(cause), { name });
}

// tasks lists the Task states, those in branches and item processors included.
function tasks({ States }) {
  return Object.entries(States).flatMap(([name, state]) => [
    ...(state.Type === 'Task' ? [name] : []),
    ...[...(state.Branches ?? []), state.ItemProcessor ?? { States: {} }].flatMap(tasks),
  ]);
}

// handlers answers every Task from its state's list.
function handlers(definition, answers, calls) {
  const left = structuredClone(answers);
  const answer = async (State, Input) => {
    calls.push({ State, Input });
    const next = left[State]?.shift();
    if (next === undefined) throw named('NoAnswerLeft', 'this interpreter calls more often than the other');
    if (next.Hang) return new Promise(() => {});
    if (next.Error) throw named(next.Error, next.Cause);
    return next.Result;
  };
  return Object.fromEntries(tasks(definition).map((state) => [state, (input) => answer(state, input)]));
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function run(StateMachine, request) {
  const time = new VirtualTime();
  globalThis.setTimeout = time.setTimeout;
  globalThis.clearTimeout = time.clearTimeout;
  const trace = { Calls: [] };
  // Whether it is valid is asked in validate.mjs: it takes longer than a run.
  const machine = new StateMachine(request.Definition, { validationOptions: { noValidate: true } });
  const execution = machine.run(request.Input, {
    context: request.Context,
    overrides: { taskResourceLocalHandlers: handlers(request.Definition, request.Answers ?? {}, trace.Calls) },
  });
  execution.result.then(
    (output) => Object.assign(trace, { Status: 'SUCCEEDED', Output: output }),
    ({ cause }) => Object.assign(trace, { Status: 'FAILED', Error: cause.name, Cause: cause.message }),
  );
  // A turn of the event loop drains every promise: who hasn't ended then sleeps.
  for (await turn(); trace.Status === undefined; await turn()) {
    if (!time.fireNext()) throw new Error('the execution neither ends nor sleeps');
  }
  trace.Slept = time.slept;
  trace.Entered = [];
  for await (const event of execution.eventLogs) {
    if (event.type === 'StateEntered') trace.Entered.push({ State: event.state.name, Input: event.state.input });
  }
  return trace;
}

const root = join(process.argv[2], 'node_modules', 'aws-local-stepfunctions');
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const { StateMachine } = await import(pathToFileURL(join(root, exports.import)));

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = await run(StateMachine, JSON.parse(line));
  } catch (error) {
    answer = { Broken: String(error.stack ?? error) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
