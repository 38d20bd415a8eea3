# bellhop: what a developer types. CI runs .ci/run, which calls these.

STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = go run golang.org/x/vuln/cmd/govulncheck@v1.9.0
SCRIPTS     = .ci/run e2e/rig/rig $(filter-out %.go,$(wildcard scripts/*))
ARCHES      = amd64 arm64 arm riscv64 # of hosts; ENGINES are those that bellhop itself runs on
ENGINES    ?= $(ARCHES)
HELPERS    ?= $(shell go env GOARCH) # of the hosts that `make build` is for
BUILD       = CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags=-s\ -w

.PHONY: build test race sim tools lint vuln e2e bench bench-peers fuzz dist image install-rig clean

build: ## ./bellhop, and the small helper that it brings to hosts of HELPERS; the first build takes some minutes
	for a in $(HELPERS); do GOARCH=$$a $(BUILD) -o bellhop-host-linux-$$a ./cmd/bellhop-host || exit 1; done
	built=; for a in $(HELPERS); do built=$$built,$$a:$$(sha256sum bellhop-host-linux-$$a | cut -c -64) || exit 1; done; \
	$(BUILD)\ -X\ bellhop/internal/link.builtHelpers=$$built -o bellhop ./cmd/bellhop

test: ## what the README says: needs Go and git
	go test ./...

race: ## ten minutes, most of them a thousand fetches
	go test -race -timeout 60m ./...

sim: ## 10,000 worlds in which all goes wrong; the first 500 are in make test
	go test ./internal/simulator -run 'TestSimulator$$' -seeds 10000 -timeout 2h

tools: ## fetches and builds what lint runs
	$(STATICCHECK) -version

lint:
	gofmt -l . | (! grep .)
	go vet ./...
	go vet -tags e2e ./e2e/...
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags e2e ./e2e/...
	shellcheck $(SCRIPTS)

vuln: ## needs the vulnerability database
	$(GOVULNCHECK) ./...

e2e: ## real hosts on this machine; needs root, see e2e/rig/rig
	scripts/e2e

bench: ## ratios, base and subject alternating
	go test -run '^$$' -bench Ratio -benchtime 1x ./...
	go test -tags e2e -count=1 -run '^$$' -bench Ratio -benchtime 1x -timeout 40m ./e2e/...

bench-peers: ## against Ansible on the same hosts, for the README
	scripts/bench-peers

fuzz: ## ten seconds for each target
	scripts/fuzz 10s

dist: ## static binaries, helpers for every architecture, man pages, completions
	mkdir -p dist/helpers
	for a in $(ARCHES); do GOARCH=$$a $(BUILD) -o dist/helpers/bellhop-host-linux-$$a ./cmd/bellhop-host || exit 1; done
	built=; for a in $(ARCHES); do built=$$built,$$a:$$(sha256sum dist/helpers/bellhop-host-linux-$$a | cut -c -64) || exit 1; done; \
	for a in $(ENGINES); do GOARCH=$$a $(BUILD)\ -X\ bellhop/internal/link.builtHelpers=$$built -o dist/linux-$$a/bellhop ./cmd/bellhop || exit 1; done
	@go run ./cmd/bellhop man dist/man/man1
	@mkdir -p dist/completions && for s in bash zsh fish; do \
	  go run ./cmd/bellhop completion $$s > dist/completions/bellhop.$$s || exit 1; \
	done

image: ## the container image, for the engine at $$DOCKER_HOST
	scripts/image

clean:
	rm -rf dist bellhop bellhop-host-linux-*
