# Magpie: build, demo, test. `make help` lists the targets.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Root runs privileged tests as they are; anyone else compiles as himself and runs the test programs through sudo.
ifneq ($(shell id -u),0)
TEST_EXEC := -exec '$(CURDIR)/test/as-root'
endif

.PHONY: help build demo test interop fuzz lint bench cluster cluster-down e2e bench-cluster generate check-generated clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## bin/magpie and bin/magpie-agent, static
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/magpie ./cmd/magpie-agent

demo: build ## the main job on this machine, no cluster needed
	@test/packages demo
	@test/demo/run

test: build ## all tests, the privileged ones through sudo
	@test/packages test
	$(GO) test $(TEST_EXEC) -timeout 8m ./...
	$(GO) -C test/cluster test ./...
	$(MAKE) interop

interop: ## programs of others (h2spec, gRPC, nghttp2, curl, Node): the same direct and through Magpie
	@test/packages interop
	$(GO) -C test/interop test $(TEST_EXEC) -count 1 -timeout 8m ./...

FUZZ     ?= agent/route:FuzzPassed agent/route:FuzzStolen agent/route:FuzzHeld agent/route:FuzzRequest agent/route:FuzzReply agent/route/h2:FuzzRelay agent/route:FuzzFramesAreAnsweredByTheRightOne
FUZZTIME ?= 1m
fuzz: ## the router for FUZZTIME (1m) each: HTTP/1 against its own promises and net/http, HTTP/2
	@for one in $(FUZZ); do $(GO) test -run '^$$' -fuzz "^$${one#*:}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x ./$${one%:*} || exit 1; done

lint: ## go vet, golangci-lint, clang-format, and nothing left to generate by hand
	@test/packages lint
	$(GO) vet ./...
	$(GO) -C tools/lint build -o ../../.cache/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	.cache/golangci-lint run --build-tags e2e ./...
	cd test/cluster && ../../.cache/golangci-lint run --build-tags e2e ./...
	cd test/interop && ../../.cache/golangci-lint run ./...
	clang-format --dry-run --Werror bpf/*.c

bench: build ## Magpie beside HAProxy and nginx, and the costs of the layer, in one run
	@test/packages bench
	$(GO) run -buildvcs=false ./bench

cluster: build ## a real Kubernetes of two nodes on this machine (the first time it takes minutes), with the images for trying things
	@test/packages cluster
	$(GO) -C test/cluster run -buildvcs=false . up
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -o .cache/demo/ ./test/demo/shop
	$(GO) run -buildvcs=false ./deploy/image -o .cache/demo/agent.tar -t magpie-k8s/magpie-agent:$(VERSION) bin/magpie-agent
	$(GO) run -buildvcs=false ./deploy/image -o .cache/demo/shop.tar -t magpie.test/shop:1 .cache/demo/shop
	$(GO) -C test/cluster run -buildvcs=false . load $(CURDIR)/.cache/demo/agent.tar $(CURDIR)/.cache/demo/shop.tar

cluster-down: ## nothing of the cluster is left
	$(GO) -C test/cluster run -buildvcs=false . down

e2e: build ## all tests in the cluster, which is left up
	@test/packages e2e
	$(GO) -C test/cluster test $(TEST_EXEC) -tags e2e -count 1 -timeout 15m .
	$(GO) test $(TEST_EXEC) -tags e2e -count 1 -timeout 40m ./test/e2e

bench-cluster: build cluster ## speed over a long way, start and cost in the cluster
	$(GO) run -buildvcs=false ./bench/cluster

generate: ## BPF objects, wire messages
	@test/packages lint
	$(GO) generate ./...

check-generated: generate ## fails when a committed generated file is not what `make generate` makes
	git diff --exit-code -- bpf wire

clean:
	rm -rf bin .cache
