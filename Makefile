# keyturn: `make` lists what there is to do. Every target installs what it needs.

SHELL      := /bin/bash
CACHE      := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/keyturn
LINT       := v2.15.0
VULN       := v1.1.4
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 20
GOLANGCI   := $(CACHE)/tools/golangci-lint-$(LINT)/golangci-lint
GOVULN     := $(CACHE)/tools/govulncheck-$(VULN)/govulncheck
FUNCTIONS  := $(notdir $(wildcard functions/*))
GO         := go
SUDO       := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
DEMO_FLAGS ?=
FUZZTIME   ?= 10s
CHAOS_FLAGS ?=
MODEL_FLAGS ?=
CDK        := 2.1148.1
YAML       ?= keyturn.yaml
# The local AWS (keyturn up), if AWS_ENDPOINT_URL points at it.
LOCAL_AWS  := $(filter http://127.0.0.1:% http://localhost:%,$(AWS_ENDPOINT_URL))

.DEFAULT_GOAL := help
.PHONY: iam operating local-functions deps-aws cdk-local cdk-test deploy deps-cdk help demo demo-naive demo-rollback test asl chaos conformance conformance-aws race fuzz model planted bench lint synth vuln verify build functions deps deps-demo deps-asl clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: deps-demo ## rotate a database login under load, on this machine (DEMO_FLAGS="--rotations 5")
	$(GO) run ./cmd/keyturn demo $(DEMO_FLAGS)

demo-naive: deps-demo ## the negative control: the password changed in place
	$(GO) run ./cmd/keyturn demo --naive

demo-rollback: deps-demo ## trouble after promotion: back to the old login
	$(GO) run ./cmd/keyturn demo --rollback

test: deps ## run every test, on real servers
	@# The demo's consumers count what is late: nothing else may run beside them.
	$(GO) test -count=1 -timeout 20m $$($(GO) list ./... | grep -v /internal/demo$$)
	$(GO) test -count=1 -timeout 20m ./internal/demo

race: deps ## run every test with the race detector
	$(GO) test -count=1 -race -timeout 40m ./...

fuzz: ## fuzz every decoder and the redaction, FUZZTIME (10s) each; seeds alone run in make test
	@grep -rn --include='*_test.go' '^func Fuzz' . | sed -E 's|^\./(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9_]*).*|\1 \2|' | sort | \
	while read -r folder name; do \
		echo "== $$folder $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s "./$$folder" || exit 1; \
	done

model: ## search for longer orders of events than make test draws (MODEL_FLAGS="-rapid.checks 1000")
	$(GO) test -count=1 -timeout 1h -run '^TestModel$$' ./rotation -model.search $(MODEL_FLAGS)

planted: ## plant defects in rotation/, one at a time, each of which the model test has to find; half an hour
	$(GO) test -count=1 -tags planted -timeout 2h -v -run '^TestPlantedDefectsAreFound$$' ./rotation

bench: deps ## measure the functions: size, cold start, memory, each step beside bare calls
	$(GO) test -run '^$$' -bench . -benchtime 20x -timeout 20m ./internal/bench

asl: deps-asl ## run the state machine in an independent interpreter too, and validate every ASL file
	$(GO) test -count=1 -timeout 10m ./stepfunctions ./localstack/stepfunctions/asl

chaos: deps-demo ## rotate with a fault at each call, for 7 minutes (CHAOS_FLAGS="-budget 0": at every one, for hours)
	$(GO) run ./internal/chaos/chaoswalk $(CHAOS_FLAGS)

conformance: deps ## show the rules of the rotation contract on the local AWS (docs/conformance.md)
	$(GO) test -count=1 -timeout 20m ./localstack/conformance
	$(GO) test -count=1 -timeout 10m -run '^TestC[0-9]' ./localstack ./localstack/secretsmanager ./localstack/events

conformance-aws: deps ## show them on the account of your credentials (it asks for KEYTURN_CONFORMANCE_CONFIRM)
	KEYTURN_CONFORMANCE_AWS=1 $(GO) test -count=1 -v -timeout 2h -run '^TestC[0-9]' ./localstack/conformance

lint: $(GOLANGCI) ## check style and correctness (.golangci.yml has the reasons)
	$(GOLANGCI) run ./...
	cd infra/cdk && $(GOLANGCI) run -c ../../.golangci.yml ./...

vuln: $(GOVULN) ## look for known vulnerabilities, where the database can be reached
	@$(GOVULN) ./... || { s=$$?; [ $$s = 3 ] && exit 3; echo "govulncheck: the vulnerability database can't be reached; nothing was checked"; }

verify: ## check that formatting and module files are as the tools write them
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) mod verify >/dev/null
	$(GO) vet ./...

cdk-test: deps-cdk ## test the CDK app: what three configurations deploy, and who may do what
	cd infra/cdk && $(GO) vet . ./keyturn && $(GO) test -count=1 -timeout 10m . ./keyturn

cdk-local: deps-demo deps-cdk ## stand what the CDK app deploys up on the local AWS, and let it rotate
	cd infra/cdk && $(GO) test -count=1 -timeout 15m -skip '^TestLeastPrivilege$$' ./local

iam: deps-demo deps-cdk ## compare every AWS call of a deployment's roles with what their policies allow
	cd infra/cdk && $(GO) test -count=1 -v -timeout 20m -run '^TestLeastPrivilege$$' ./local

operating: deps-demo deps-cdk deps-aws ## follow docs/operating.md to the letter on the local AWS
	cd infra/cdk && $(GO) test -count=1 -v -timeout 20m ./guide

synth: functions deps-cdk ## synthesize the three configurations into bin/cdk, and lint the templates
	@mkdir -p bin/cdk && cd infra/cdk && $(GO) build -o ../../bin/cdk/app . && for c in minimal zones many; do \
		rm -rf ../../bin/cdk/$$c && CDK_OUTDIR=../../bin/cdk/$$c CDK_CONTEXT_JSON="$$(node -p 'JSON.stringify(require("./cdk.json").context)')" \
			KEYTURN_YAML=keyturn/testdata/$$c.yaml ../../bin/cdk/app && echo "synthesized $$c" || exit 1; \
	done
	@# W3005: a DependsOn that follows from a reference, too, as CDK writes them.
	"$$(infra/cdk/install-cfn-lint.sh)" --ignore-checks W3005 -- bin/cdk/*/*.template.json infra/cdk/central-bus.yaml

deploy: $(if $(LOCAL_AWS),local-functions,functions) deps-cdk ## deploy YAML=keyturn.yaml into the account of your credentials, if a trail records it (docs/deploying.md)
	infra/cdk/trail.sh $$(awk '$$1 == "trail:" {print $$2}' '$(YAML)')
	YAML='$(abspath $(YAML))' CDK=$(CDK) infra/cdk/deploy.sh

build: functions ## build the operator's tool and the functions for this machine into bin/
	$(GO) build -o bin/ ./cmd/keyturn
	CGO_ENABLED=0 $(GO) build -trimpath -tags lambda.norpc -ldflags '-s -w' -o bin/functions/ ./functions/...

functions: $(FUNCTIONS:%=bin/lambda/%/bootstrap.zip) ## build every function for Lambda (arm64, provided.al2023)

# The local AWS runs functions on this machine.
local-functions:
	CGO_ENABLED=0 $(GO) build -trimpath -tags lambda.norpc -ldflags '-s -w' -o bin/functions/ ./functions/...
	@for f in $(FUNCTIONS); do mkdir -p bin/local/$$f && cp -f bin/functions/$$f bin/local/$$f/bootstrap || exit 1; done

# make would remove what it takes for a step on the way to the zip; the CDK app packs it.
.PRECIOUS: bin/lambda/%/bootstrap
bin/lambda/%/bootstrap: FORCE
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 $(GO) build -trimpath -tags lambda.norpc -ldflags '-s -w -buildid=' -o $@ ./functions/$*

bin/lambda/%/bootstrap.zip: bin/lambda/%/bootstrap
	cd $(@D) && $(GO) run $(CURDIR)/internal/lambdazip bootstrap

FORCE:

deps-demo: ## install what the demo needs: PostgreSQL
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || $(SUDO) env DEBIAN_FRONTEND=noninteractive sh -c \
		'apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql postgresql-contrib >/dev/null'

deps: deps-demo deps-asl ## install what the tests need: PgBouncer, the AWS CLI, boto3, PostgreSQL 18, readers of ASL
	@command -v pgbouncer >/dev/null && command -v aws >/dev/null && command -v npm >/dev/null && \
		{ python3 -c 'import boto3' || /usr/bin/python3 -c 'import boto3'; } 2>/dev/null || \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive ./internal/pgtest/install-packages.sh
	@./internal/pgtest/install-postgres-18.sh

deps-cdk: ## install what the CDK app needs: Node, and cfn-lint if it isn't there
	@command -v node >/dev/null && command -v npm >/dev/null || \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends npm >/dev/null'
	@infra/cdk/install-cfn-lint.sh >/dev/null

deps-aws: ## install the AWS CLI
	@command -v aws >/dev/null || \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends awscli >/dev/null'

deps-asl: ## install what the ASL is checked with: Node, an interpreter, two validators
	@command -v node >/dev/null && command -v npm >/dev/null || \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends npm >/dev/null'
	@./stepfunctions/differential/install.sh >/dev/null

$(GOLANGCI):
	GOBIN=$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT)

$(GOVULN):
	GOBIN=$(@D) $(GO) install golang.org/x/vuln/cmd/govulncheck@$(VULN)

clean: ## remove what was built here
	rm -rf bin report.html
