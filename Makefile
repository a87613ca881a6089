# The targets of the project. `make help` lists them.

GO      ?= go
GOARCH  ?= $(shell $(GO) env GOARCH)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)
# The date of the commit, not of the build, so that a build can be reproduced.
DATE    := $(shell git log -1 --format=%cI 2>/dev/null)
# The directory into which programs are built.
BIN     := bin
# The image's name and tag are only in deploy/base/kustomization.yaml.
EMULATOR_IMAGE ?= bitbucket-emulator:latest
IMAGE   ?= $(shell sed -n 's/^ *newName: *//p' deploy/base/kustomization.yaml):$(shell sed -n 's/^ *newTag: *//p' deploy/base/kustomization.yaml)

# Where a release is meant to be published; these are examples. Pass your own to make dist.
IMAGE_REPOSITORY    ?= registry.example.com/bitbucket-runner-scaler
EMULATOR_REPOSITORY ?= $(dir $(IMAGE_REPOSITORY))bitbucket-emulator
CHART_REPOSITORY    ?= $(dir $(IMAGE_REPOSITORY))charts
HOMEPAGE            ?= https://example.com/bitbucket-runner-scaler
DOWNLOAD_URL        ?= $(HOMEPAGE)/releases/download/$(VERSION)
# SNAPSHOT=1: make dist does not check the tree, the tags and the changelog.
SNAPSHOT            ?=

LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)
# Recipes read these as GIVEN_VERSION and so on from the environment: within a command, the shell
# would run what a value has in quotes.
$(foreach v,VERSION COMMIT DATE LDFLAGS IMAGE_REPOSITORY EMULATOR_REPOSITORY CHART_REPOSITORY DOWNLOAD_URL HOMEPAGE,$(eval export GIVEN_$(v) := $$($(v))))

TOOL    := $(GO) tool -modfile=.ci/tools.mod
LINT    := $(GO) tool -modfile=.ci/lint.mod golangci-lint
# The flags for every program. The end-to-end tests use the same, so that all builds
# share the build cache.
FLAGS   := -trimpath -buildvcs=false -ldflags "$$GIVEN_LDFLAGS"
STATIC  := CGO_ENABLED=0 $(GO) build $(FLAGS)
PROGRAMS := scaler sidecar runnerctl bitbucket-emulator
# kubectl is built from the same module and with the same flags as for the local cluster.
KUBECTL := CGO_ENABLED=0 $(GO) -C e2e/tools/kubernetes run -trimpath -buildvcs=false k8s.io/kubernetes/cmd/kubectl
# The race detector needs a C compiler. Without one the tests run without it, and say so.
RACE    ?= $(if $(shell command -v "$(firstword $(shell $(GO) env CC))"),-race)
FUZZ    ?= 15s
# More flags of e2e/bench, such as BENCH="-only sidecars".
BENCH   ?=
# For chaos: the seed of the first round, the number of rounds, and more flags of e2e/chaos.
SEED    ?= 1
ROUNDS  ?= 12
CHAOS   ?=
# For compatibility: the versions, by minor version, and the tests.
KEDAS      ?= 2.21 2.17 2.16
KUBERNETES ?= 1.36 1.33
COMPATIBLE ?= TestKEDAAcceptsRenderedScaledJobs|TestRenderedManifestsAreAccepted|TestEachAccountHasExactlyItsRights|TestTheScalerMayChangeOneAnnotation|TestWorkedExampleEndToEnd|TestBurstIsRunAndNothingRemains|TestMaxIsNotExceeded|TestInvalidTriggerIsReported|TestEphemeralRunners|TestDeletedPod|TestEachGroupGets|TestRunnersOfAChangedScaledJob|TestLeaderThatDies|TestRenewedCertificate
# More flags of the soak.
SOAK       ?=
# The arguments of both Dockerfiles, for their labels.
BUILT   := --build-arg VERSION="$$GIVEN_VERSION" --build-arg COMMIT="$$GIVEN_COMMIT" --build-arg DATE="$$GIVEN_DATE"
# Passes a variable as a flag only if it was given on make's command line, because a
# KUBECONFIG in the environment is not meant for the demo.
given    = $(if $(filter command line,$(origin $(1))),$(2) "$($(1))")

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build scaler, sidecar, runnerctl and bitbucket-emulator into bin/
	$(STATIC) -o $(BIN)/ $(PROGRAMS:%=./cmd/%)

.PHONY: $(PROGRAMS)
$(PROGRAMS):
	$(STATIC) -o $(BIN)/ ./cmd/$@

.PHONY: man
man: ## write the man pages of runnerctl into bin/man/
	CGO_ENABLED=0 $(GO) run $(FLAGS) -tags man ./cmd/runnerctl man bin/man

.PHONY: demo
demo: ## demonstrate the system on this machine, without Kubernetes; needs only Go
	@echo "building the sidecar, the emulator and the demo (a minute or two the first time) ..."
	@$(STATIC) -o bin/ ./cmd/sidecar ./cmd/bitbucket-emulator ./cmd/demo
	@bin/demo --bin bin $(if $(KEEP),--keep)

.PHONY: pictures
pictures: ## take the pictures of the page that docs/ shows; needs Chromium
	@$(STATIC) -o bin/ ./cmd/sidecar ./cmd/bitbucket-emulator ./cmd/demo
	@mkdir -p docs/pictures
	@bin/demo --bin bin --pictures docs/pictures

.PHONY: demo-cluster
demo-cluster: ## demonstrate it on a real local Kubernetes with KEDA; needs Linux and root, or KUBECONFIG=...
	@$(GO) -C e2e build -o ../bin/demo-cluster ./cmd/demo
	@cd e2e && ../bin/demo-cluster $(if $(KEEP),--keep) $(if $(filter command line,$(origin KUBECONFIG)),--kubeconfig "$(abspath $(KUBECONFIG))") $(call given,IMAGE,--image) $(call given,EMULATOR_IMAGE,--emulator-image)

.PHONY: run
run: ## run the emulator and the scaler, to call with grpcurl; Ctrl-C stops both
	@echo "building the scaler and the emulator ..."
	@$(STATIC) -o bin/ ./cmd/scaler ./cmd/bitbucket-emulator
	@.ci/run-local

.PHONY: test
test: ## run the tests of the main module, with the race detector if there is a C compiler, and those of deploy/
	@$(if $(RACE),,echo "no C compiler: the tests run without the race detector")
	$(GO) test $(RACE) -count=1 -timeout 20m ./...
	$(GO) -C deploy/test test -count=1 ./...
	$(GO) -C deploy/dist test -count=1 ./...

.PHONY: e2e
e2e: ## run the end-to-end tests on a real local cluster (the first run builds it in half an hour)
	$(GO) -C e2e run ./cmd/cluster build
	$(GO) -C e2e test -race -count=1 -p 1 -timeout 45m -v ./...
	$(GO) -C e2e/traces test -race -count=1 -v ./...

.PHONY: e2e-full
e2e-full: ## run the long end-to-end tests too, and all again with lists that show no steps
	$(GO) -C e2e run ./cmd/cluster build
	E2E_FULL=1 $(GO) -C e2e test -race -count=1 -p 1 -timeout 90m -v ./...
	$(GO) -C e2e/clients test -race -count=1 -v ./...
	E2E_FULL=1 E2E_HIDE_STEP=1 $(GO) -C e2e test -race -count=1 -timeout 90m -v ./suite
	$(MAKE) compatibility dist-check

.PHONY: compatibility
compatibility: ## run the tests of COMPATIBLE with each supported KEDA and Kubernetes: KEDAS="2.17 2.16" KUBERNETES="1.36 1.33"
	@for keda in $(KEDAS); do for kubernetes in $(KUBERNETES); do \
	  echo "== KEDA $$keda, Kubernetes $$kubernetes"; export E2E_KEDA=$$keda E2E_KUBERNETES=$$kubernetes; \
	  $(GO) -C e2e run ./cmd/cluster build && $(GO) -C e2e test -race -count=1 -p 1 -timeout 45m -run '$(COMPATIBLE)' -v ./acceptance ./suite || exit 1; \
	done; done

.PHONY: soak
soak: ## run the product for an hour on the local cluster, with leaders killed, and write docs/benchmarks.md: SOAK="-duration 10m -kill-every 4m"
	$(GO) -C e2e run ./cmd/cluster build
	$(GO) -C e2e run ./soak -docs "$(CURDIR)/docs" $(SOAK)

.PHONY: chaos
chaos: ## run random load and faults; make chaos SEED=17 ROUNDS=1 repeats that round; needs Linux
	$(GO) -C e2e run ./cmd/cluster build
	$(GO) -C e2e run ./chaos -seed $(SEED) -rounds $(ROUNDS) $(CHAOS)

.PHONY: lint
lint: ## run golangci-lint in every module, actionlint and buf lint, and check sizes and manifests
	$(LINT) run ./...
	cd e2e && $(GO) tool -modfile=../.ci/lint.mod golangci-lint run -c ../.golangci.yml ./...
	cd e2e/clients && $(GO) tool -modfile=../../.ci/lint.mod golangci-lint run -c ../../.golangci.yml ./...
	cd e2e/traces && $(GO) tool -modfile=../../.ci/lint.mod golangci-lint run -c ../../.golangci.yml ./...
	cd deploy/test && $(GO) tool -modfile=../../.ci/lint.mod golangci-lint run -c ../../.golangci.yml ./...
	cd deploy/dist && $(GO) tool -modfile=../../.ci/lint.mod golangci-lint run -c ../../.golangci.yml --build-tags twice ./...
	$(TOOL) actionlint
	$(GO) run ./cmd/runnerctl pipelines -f bitbucket-pipelines.yml
	$(TOOL) buf lint
	$(TOOL) buf format --diff --exit-code
	@git ls-files '*.go' ':!*_test.go' ':!*.pb.go' | xargs wc -l | awk '$$2 != "total" { sub("/[^/]*$$", "", $$2); lines[$$2] += $$1 } \
	  END { for (p in lines) if (lines[p] > 3000) { print p ": " lines[p] " production lines, want at most 3000 per package"; failed = 1 } exit failed }'
	for dir in deploy/base deploy/examples deploy/overlays/*; do $(KUBECTL) kustomize "$(CURDIR)/$$dir" >/dev/null || exit 1; done

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZ (15s)
	@for target in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | grep -v '^./e2e/'); do \
	  for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/p' $$target); do \
	    echo "== $$(dirname $$target) $$name"; $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ) -fuzzminimizetime 2x $$(dirname $$target) || exit 1; \
	  done; \
	done

.PHONY: bench
bench: ## measure the speed within a quarter of an hour, and write docs/benchmarks.md; needs Linux
	$(GO) -C e2e build -o ../$(BIN)/bench ./bench
	$(BIN)/bench $(BENCH)

.PHONY: bench-strategies
bench-strategies: ## simulate the strategies, and write docs/benchmarks.md, its plots and the output in docs/simulate.md
	UPDATE_GOLDEN=1 $(GO) test -count=1 -run 'AreCurrent$$' ./cmd/runnerctl

.PHONY: image
image: bin/linux/$(GOARCH) ## build the image with buildah or docker (GOARCH=arm64 for ARM)
	@if command -v buildah >/dev/null; then buildah bud --isolation=chroot --timestamp 0 --platform linux/$(GOARCH) --build-arg TARGETARCH=$(GOARCH) $(BUILT) -t $(IMAGE) .; \
	else docker build --platform linux/$(GOARCH) --build-arg TARGETARCH=$(GOARCH) $(BUILT) -t $(IMAGE) .; fi

.PHONY: emulator-image
emulator-image: bin/emulator ## build the emulator's image: make emulator-image EMULATOR_IMAGE=registry/name:tag
	@if command -v buildah >/dev/null; then buildah bud --isolation=chroot --timestamp 0 --platform linux/$(GOARCH) $(BUILT) -t $(EMULATOR_IMAGE) -f e2e/installation/emulator.Dockerfile bin/emulator; \
	else docker build --platform linux/$(GOARCH) $(BUILT) -t $(EMULATOR_IMAGE) -f e2e/installation/emulator.Dockerfile bin/emulator; fi

.PHONY: push
push: ## push the image: make image push IMAGE=registry/name:tag
	@if command -v buildah >/dev/null; then buildah push $(IMAGE); else docker push $(IMAGE); fi

.PHONY: dist
dist: ## make all files of a release in dist/: make dist VERSION=v0.1.0 IMAGE_REPOSITORY=... (docs/releasing.md)
	@CGO_ENABLED=0 $(GO) -C deploy/dist run . build -root "$(CURDIR)" -out "$(CURDIR)/dist" -version "$$GIVEN_VERSION" -commit "$$GIVEN_COMMIT" -date "$$GIVEN_DATE" -ldflags "$$GIVEN_LDFLAGS" \
	  -image-repository "$$GIVEN_IMAGE_REPOSITORY" -emulator-repository "$$GIVEN_EMULATOR_REPOSITORY" -chart-repository "$$GIVEN_CHART_REPOSITORY" -download-url "$$GIVEN_DOWNLOAD_URL" -homepage "$$GIVEN_HOMEPAGE" $(if $(SNAPSHOT),-snapshot)

.PHONY: dist-check
dist-check: ## make the files of a release twice, from two clones in other folders and with another build cache, and compare them
	$(GO) -C deploy/dist test -count=1 -tags twice -run TestTwoBuilds -timeout 90m -v .

# Passes a variable that somebody has set as a flag. dist/ knows the others.
same = $(if $(filter-out file,$(origin $(1))),$(2) "$$GIVEN_$(1)")

.PHONY: publish
publish: $(filter dist,$(MAKECMDGOALS)) ## push the images and the chart of dist/ to the registries that make dist was given
	@CGO_ENABLED=0 $(GO) -C deploy/dist run . push -from "$(CURDIR)/dist" $(call same,VERSION,-version) $(call same,IMAGE_REPOSITORY,-image-repository) \
	  $(call same,EMULATOR_REPOSITORY,-emulator-repository) $(call same,CHART_REPOSITORY,-chart-repository) $(call same,DOWNLOAD_URL,-download-url) $(call same,HOMEPAGE,-homepage)

.PHONY: bin/linux/$(GOARCH)
bin/linux/$(GOARCH):
	@mkdir -p $@
	GOOS=linux GOARCH=$(GOARCH) $(STATIC) -o $@/ ./cmd/scaler ./cmd/sidecar

.PHONY: bin/emulator
bin/emulator:
	@mkdir -p $@/tmp
	GOOS=linux GOARCH=$(GOARCH) $(STATIC) -o $@/ ./cmd/bitbucket-emulator

.PHONY: generate
generate: ## generate code, the JSON Schema, docs/metrics.md, and the chart's groups, README and flags
	$(TOOL) buf generate
	$(GO) run ./cmd/runnerctl schema >runners_config.schema.json.new
	mv runners_config.schema.json.new jobfactory/config/runners_config.schema.json
	$(GO) test ./jobfactory/chart -run TestTheChartIsCurrent -update >/dev/null
	$(GO) test ./externalscaler/status/web -run TestTheDescriptionIsThatOfTheTypes -update >/dev/null
	$(GO) test ./externalscaler/status/metrics -run TestTheDocumentIsCurrent -update >/dev/null
	$(GO) test ./cmd/scaler -run TestTheChartKnowsEveryFlag -update >/dev/null
	$(GO) tool -modfile=.ci/helm-docs.mod helm-docs --chart-search-root deploy/chart --sort-values-order file --log-level warning

.PHONY: manifests
manifests: ## print the manifests of deploy/base
	@$(KUBECTL) kustomize "$(CURDIR)/deploy/base"
