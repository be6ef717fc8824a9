// Answers, for each call on standard input: would IAM allow it, and which parts of
// the role's policies are why? Input and output are JSON, as least_privilege_test.go
// has them.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

// The packages lie in the folder that the argument names.
const found = createRequire(process.argv[2] + '/').resolve('@cloud-copilot/iam-simulate')
const { runSimulation } = await import(pathToFileURL(found))

let text = ''
for await (const chunk of process.stdin) text += chunk
const { account, calls, roles, resources, boundary } = JSON.parse(text)

const list = v => (v === undefined ? [] : Array.isArray(v) ? v : [v])
const glob = pattern =>
  new RegExp('^' + pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '.*').replace(/\?/g, '.') + '$')

// Some condition keys are judged here, because the simulator takes them for missing:
// those with a variable after a colon, such as kms:EncryptionContext:SecretARN, and
// events:source, which it takes for a list always. PutEvents is authorized entry by
// entry, with one source (EventBridge user guide, "Using IAM policy conditions"). A
// statement that one of them doesn't match holds for nobody; the others lose the key.
const own = key => key.startsWith('kms:EncryptionContext:') || key === 'events:source'

function judged(policy, context) {
  const kept = []
  for (const statement of policy.Statement) {
    const condition = structuredClone(statement.Condition ?? {})
    let matches = true
    for (const [operator, keys] of Object.entries(condition)) {
      for (const [key, values] of Object.entries(keys)) {
        if (!own(key)) continue
        if (!['StringLike', 'ArnLike', 'StringEquals'].includes(operator)) throw new Error(`${operator} on ${key}`)
        const given = context[key]
        matches &&= given !== undefined && list(values).some(v => glob(v).test(given))
        delete keys[key]
      }
      if (Object.keys(keys).length === 0) delete condition[operator]
    }
    // A statement that doesn't match keeps its place, so that the others keep their number.
    kept.push({ ...statement, Condition: matches ? condition : { StringEquals: { 'aws:PrincipalArn': 'nobody' } } })
  }
  return { ...policy, Statement: kept }
}

async function judge(call) {
  const context = { 'aws:PrincipalArn': call.principal, 'aws:SecureTransport': 'true', ...call.context }
  const passed = Object.fromEntries(Object.entries(context).filter(([key]) => !own(key) && key !== 'events:detail-type'))
  const bucket = call.resource.startsWith('arn:aws:s3:::') ? call.resource.split('/')[0] : call.resource
  const document = resources[bucket]
  const answer = await runSimulation(
    {
      request: { principal: call.principal, action: call.action, resource: { resource: call.resource, accountId: account }, contextVariables: passed },
      identityPolicies: roles[call.principal].map(p => ({ name: p.name, policy: judged(p.policy, context) })),
      serviceControlPolicies: [],
      resourceControlPolicies: [],
      resourcePolicy: document && judged(document, context),
      permissionBoundaryPolicies: boundary && [{ name: 'boundary', policy: boundary }],
    },
    {},
  )
  if (answer.resultType !== 'single') {
    return { allowed: false, why: JSON.stringify(answer.errors ?? answer.resultType), used: [] }
  }
  const { analysis, ignoredContextKeys } = answer.result
  if (ignoredContextKeys.length > 0) return { allowed: false, why: `unknown condition keys ${ignoredContextKeys}`, used: [] }
  const used = []
  for (const s of analysis.identityAnalysis?.allowStatements ?? []) {
    for (const a of list(s.explain.actions).filter(a => a.matches)) {
      for (const r of list(s.explain.resources).filter(r => r.matches)) {
        used.push({ statement: s.explain.identifier, action: a.action, resource: r.resource })
      }
    }
  }
  return { allowed: answer.overallResult === 'Allowed', why: answer.overallResult, used }
}

const answers = []
for (const call of calls) answers.push(await judge(call))
process.stdout.write(JSON.stringify(answers))
