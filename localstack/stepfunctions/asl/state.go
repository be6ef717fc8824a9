package asl

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// state is one state of a graph; the members of other types are empty.
type state struct {
	name, kind, at string
	next           string // empty: the graph ends here (but for Choice)

	input, output  place
	parameters     expression
	resultSelector expression
	result         place
	retry          []retrier
	catch          []catcher

	pass     *any // Pass: its Result
	task     *task
	choice   *choice
	wait     *wait
	fail     *fail
	branches []graph // Parallel; Map has one
	mapping  *mapping
}

// place is InputPath, OutputPath or ResultPath: a path, or nothing for null.
type place struct {
	path    path
	discard bool
}

var wholeInput = place{path: path{text: "$", definite: true}}

// wait holds one of four ways to say how long.
type wait struct {
	seconds     time.Duration
	secondsPath *path
	until       time.Time
	untilPath   *path
}

type fail struct {
	name, cause         string
	namePath, causePath expression
}

type mapping struct {
	items       *path
	selector    expression
	concurrency int
}

func (p *parser) state(name string, v any, at string) *state {
	o := p.object(v, at)
	kinds := map[string]func(*object, *state){
		"Pass": p.parsePass, "Task": p.parseTask, "Choice": p.parseChoice, "Wait": p.parseWait,
		"Succeed": func(o *object, s *state) { p.paths(o, s) },
		"Fail":    p.parseFail, "Parallel": p.parseParallel, "Map": p.parseMap,
	}
	s := &state{name: name, at: at, kind: o.requiredText("Type"), input: wholeInput, output: wholeInput, result: wholeInput}
	o.oneOf("QueryLanguage", "JSONPath", "JSONPath")
	read, ok := kinds[s.kind]
	if !ok {
		if s.kind != "" {
			o.fail("Type", "there is no state type %q", s.kind)
		}
		return s
	}
	read(o, s)
	o.closed()
	return s
}

// transition reads Next or End: exactly one of them.
func (p *parser) transition(o *object, s *state) {
	next, hasNext := o.text("Next")
	end := o.flag("End")
	s.next = next
	switch {
	case hasNext && o.has("End"):
		p.fail(InvalidSchema, s.at, "Next and End exclude each other")
	case !o.has("Next") && !end:
		p.fail(InvalidSchema, s.at, "a Next or \"End\": true is required")
	}
}

// paths reads InputPath and OutputPath.
func (p *parser) paths(o *object, s *state) {
	s.input = p.place(o, "InputPath", parsePath)
	s.output = p.place(o, "OutputPath", parsePath)
}

func (p *parser) place(o *object, name string, read func(string) (path, error)) place {
	v, ok := o.take(name)
	if !ok {
		return wholeInput
	}
	if v == nil {
		return place{discard: true}
	}
	text, ok := v.(string)
	if !ok {
		o.fail(name, "a path or null is wanted")
		return place{discard: true}
	}
	parsed, err := read(text)
	if err != nil {
		p.fail(BadPath, o.at+"/"+name, "%v", err)
	}
	return place{path: parsed}
}

func (p *parser) resultPath(o *object) place {
	r := p.place(o, "ResultPath", parseReference)
	if r.path.context {
		p.fail(BadPath, o.at+"/ResultPath", "the context object can't be written")
	}
	return r
}

// working reads what Task, Map and Parallel have in common.
func (p *parser) working(o *object, s *state) {
	p.paths(o, s)
	p.transition(o, s)
	s.resultSelector = o.template("ResultSelector")
	s.result = p.resultPath(o)
	s.retry = p.retriers(o)
	s.catch = p.catchers(o)
}

func (p *parser) parsePass(o *object, s *state) {
	p.paths(o, s)
	p.transition(o, s)
	s.parameters = o.template("Parameters")
	s.result = p.resultPath(o)
	if v, ok := o.take("Result"); ok {
		s.pass = &v
	}
}

func (p *parser) parseWait(o *object, s *state) {
	p.paths(o, s)
	p.transition(o, s)
	w := &wait{
		seconds:     time.Duration(o.whole("Seconds", 0, 0, maxSeconds)) * time.Second,
		secondsPath: o.reference("SecondsPath"), untilPath: o.reference("TimestampPath"),
	}
	if text, ok := o.text("Timestamp"); ok {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			o.fail("Timestamp", "%q is no RFC 3339 time", text)
		}
		w.until = t
	}
	ways := 0
	for _, name := range []string{"Seconds", "SecondsPath", "Timestamp", "TimestampPath"} {
		if o.has(name) {
			ways++
		}
	}
	if ways != 1 {
		p.fail(InvalidSchema, s.at, "exactly one of Seconds, SecondsPath, Timestamp and TimestampPath is required")
	}
	s.wait = w
}

func (p *parser) parseFail(o *object, s *state) {
	f := &fail{}
	f.name, _ = o.text("Error")
	f.cause, _ = o.text("Cause")
	f.namePath, f.causePath = p.failPath(o, "ErrorPath"), p.failPath(o, "CausePath")
	for _, name := range []string{"Error", "Cause"} {
		if o.has(name) && o.has(name+"Path") {
			p.fail(InvalidSchema, s.at, "%s and %sPath exclude each other", name, name)
		}
	}
	s.fail = f
}

func (p *parser) failPath(o *object, name string) expression {
	text, ok := o.text(name)
	if !ok {
		return nil
	}
	e, err := compileExpression(text)
	if parsed, isPath := e.(path); err == nil && isPath && !parsed.definite {
		err = fmt.Errorf("path %q may match several values", text)
	}
	if err != nil {
		p.fail(BadPath, o.at+"/"+name, "%v", err)
	}
	return e
}

func (p *parser) parseParallel(o *object, s *state) {
	p.working(o, s)
	s.parameters = o.template("Parameters")
	list := o.list("Branches")
	if len(list) == 0 {
		o.fail("Branches", "at least one branch is required")
	}
	for i, v := range list {
		s.branches = append(s.branches, p.graph(p.object(v, fmt.Sprintf("%s/Branches[%d]", s.at, i))))
	}
}

func (p *parser) parseMap(o *object, s *state) {
	p.working(o, s)
	s.mapping = &mapping{
		items: o.reference("ItemsPath"), selector: o.template("ItemSelector"),
		concurrency: int(o.whole("MaxConcurrency", 0, 0, maxSeconds)),
	}
	v, ok := o.take("ItemProcessor")
	if !ok {
		o.fail("ItemProcessor", "this field is required (its older name, Iterator, isn't supported)")
		return
	}
	processor := p.object(v, s.at+"/ItemProcessor")
	if v, ok := processor.take("ProcessorConfig"); ok {
		c := p.object(v, processor.at+"/ProcessorConfig")
		c.oneOf("Mode", "INLINE", "INLINE")
		c.closed()
	}
	s.branches = []graph{p.graph(processor)}
}

// task is what a Task calls.
type task struct {
	resource        string
	service, action string // "lambda", "invoke"; or "secretsmanager", "describeSecret"
	sdk             bool
	timeout         time.Duration
	timeoutPath     *path
	heartbeat       time.Duration
	heartbeatPath   *path
}

// Resources that a Task may name.
const (
	invokeLambda = "arn:aws:states:::lambda:invoke"
	sdkPrefix    = "arn:aws:states:::aws-sdk:"
)

var lambdaParameters = []string{"FunctionName", "Payload", "InvocationType", "Qualifier"}

func (p *parser) parseTask(o *object, s *state) {
	p.working(o, s)
	s.parameters = o.template("Parameters")
	t := &task{
		resource:    o.requiredText("Resource"),
		timeout:     time.Duration(o.whole("TimeoutSeconds", 0, 1, maxSeconds)) * time.Second,
		timeoutPath: o.reference("TimeoutSecondsPath"),
		heartbeat:   time.Duration(o.whole("HeartbeatSeconds", 0, 1, maxSeconds)) * time.Second,

		heartbeatPath: o.reference("HeartbeatSecondsPath"),
	}
	s.task = t
	for _, name := range []string{"TimeoutSeconds", "HeartbeatSeconds"} {
		if o.has(name) && o.has(name+"Path") {
			p.fail(InvalidSchema, s.at, "%s and %sPath exclude each other", name, name)
		}
	}
	if t.timeout > 0 && t.heartbeat >= t.timeout {
		o.fail("HeartbeatSeconds", "it must be less than TimeoutSeconds")
	}
	parameters, _ := o.members["Parameters"].(map[string]any)
	switch rest, sdk := strings.CutPrefix(t.resource, sdkPrefix); {
	case t.resource == invokeLambda:
		t.service, t.action = "lambda", "invoke"
		p.checkLambda(o, parameters)
	case sdk:
		t.sdk = true
		t.service, t.action, _ = strings.Cut(rest, ":")
		p.checkSDK(o, t, parameters)
	case t.resource != "":
		o.fail("Resource", "%q isn't supported; %s and %s<service>:<action> are", t.resource, invokeLambda, sdkPrefix)
	}
}

func (p *parser) checkLambda(o *object, parameters map[string]any) {
	at := o.at + "/Parameters"
	seen := map[string]bool{}
	for name, v := range parameters {
		plain := strings.TrimSuffix(name, ".$")
		seen[plain] = true
		if !slices.Contains(lambdaParameters, plain) {
			p.fail(InvalidSchema, at, "The field %q is not supported by Step Functions", plain)
		}
		if name == "InvocationType" && v != "RequestResponse" || name == "InvocationType.$" {
			p.fail(InvalidSchema, at, "InvocationType may only be RequestResponse here")
		}
	}
	if !seen["FunctionName"] {
		p.fail(InvalidSchema, at, "FunctionName is required")
	}
}

func (p *parser) checkSDK(o *object, t *task, parameters map[string]any) {
	lower := func(s string) bool { return s != "" && s[0] >= 'a' && s[0] <= 'z' }
	if !lower(t.service) || !lower(t.action) || strings.ContainsAny(t.action, ".:") {
		o.fail("Resource", "%q isn't supported: %s<service>:<action> is wanted, both beginning in lower case, without a pattern", t.resource, sdkPrefix)
	}
	if !o.has("Parameters") {
		o.fail("Parameters", "this field is required by an aws-sdk task")
	}
	for name := range parameters {
		if lower(name) {
			p.fail(InvalidSchema, o.at+"/Parameters", "The field %q is not supported by Step Functions; names begin in upper case", name)
		}
	}
}
