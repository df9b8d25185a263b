# Every target is a thin call; the work is in Python below ci/ and tests/. Settings:
#   PYTHON=python3.12     another Python (3.11 or newer)
#   CLUSTER=current       the current kube context in place of the local cluster
#   IMAGE_REGISTRY=registry.example.com/path   images are pushed there, and pods pull them from there
#   IMAGE_REGISTRY_TLS_VERIFY=false   it speaks plain HTTP
#   CLEARML_K8S_CACHE=    where tools, images and cluster state are kept (~/.cache/clearml-k8s)
#   SKIP_PARTS=cluster,e2e   parts that `make test` leaves out, by name
#   PYTEST_ARGS="-x -k queue"
PYTHON ?= python3

export PYTHONUNBUFFERED := 1
export CLUSTER IMAGE_REGISTRY IMAGE_REGISTRY_TLS_VERIFY CLEARML_K8S_CACHE SKIP_PARTS PYTEST_ARGS
RUN := $(PYTHON) -m ci.run
TEST := $(PYTHON) -m ci.test
SOURCES := controller/src ci tests values-schema

.DEFAULT_GOAL := help

##@ General

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: packages ## from nothing to a finished ClearML task on a local cluster
	@$(RUN) --tools all --images controller,task --cluster python -m tests.e2e.demo

##@ What the rest stands on

.PHONY: packages
packages: ## install the Debian packages that are missing (as root, on Debian; elsewhere nothing)
	@case "$(CLUSTER)" in \
	"") if command -v apt-get >/dev/null; then ci/tools/apt.sh; fi ;; \
	current) ;; \
	*) echo "error: CLUSTER=$(CLUSTER) is not known: leave it out, or write current" >&2; exit 1 ;; \
	esac

.PHONY: venv
venv: ## make the Python development environment in the cache, print its folder
	@$(PYTHON) -m ci.venv

.PHONY: tools
tools: ## build the pinned programs that are missing (helm, kubectl, etcd, ...), print their folder
	@$(PYTHON) ci/tools/build.py --bin-dir

.PHONY: image
image: packages ## build the controller's image, print the path of its archive
	@$(PYTHON) -m ci.images controller

.PHONY: lock
lock: ## write the Python lock files anew
	@$(RUN) python -m ci.lock

##@ The local cluster

.PHONY: cluster-up
cluster-up: packages ## start the local cluster, or mend what of it is not running
	@$(PYTHON) -m ci.cluster up

.PHONY: cluster-down
cluster-down: ## remove the local cluster and everything it made
	@$(PYTHON) -m ci.cluster down

.PHONY: cluster-status
cluster-status: ## health of each component, and the variables to use the cluster with
	@$(PYTHON) -m ci.cluster status

##@ Code

.PHONY: generate
generate: ## write the generated files anew (schemas, values.yaml, docs, the chart's README)
	@$(RUN) python values-schema/build.py
	@$(RUN) python tests/support/reconcile_page.py
	@$(RUN) python tests/support/metrics_page.py
	@$(RUN) python tests/support/glue_variables_page.py
	@$(RUN) --tools helm-docs python -m ci.charts readme

.PHONY: lint
lint: ## ruff, mypy, import layers, actionlint
	@$(RUN) ruff check $(SOURCES)
	@$(RUN) ruff format --check $(SOURCES)
	@$(RUN) mypy --strict controller/src ci
	@$(RUN) lint-imports --no-logo
	@$(RUN) --tools actionlint actionlint -shellcheck= -pyflakes=

.PHONY: verify
verify: lint ct-lint ## lint, and fail when a generated file is not up to date
	@$(RUN) python values-schema/build.py --check || { echo "generated files are out of date: make generate, then commit them" >&2; exit 1; }
	@$(RUN) python tests/support/reconcile_page.py --check
	@$(RUN) python tests/support/metrics_page.py --check
	@$(RUN) python tests/support/glue_variables_page.py --check
	@$(RUN) --tools helm-docs python -m ci.charts readme --check || { echo "the chart's README is out of date: make generate, then commit it" >&2; exit 1; }

.PHONY: ct-lint
ct-lint: ## ct lint: the chart with each values file in its ci/
	@$(RUN) --tools helm,ct python -m ci.charts lint

.PHONY: ct-install
ct-install: packages ## ct install: a release on the cluster for each values file
	@$(RUN) --tools all --images controller --cluster sh -c '{ [ -n "$$IMAGE_REGISTRY" ] || python -m ci.cluster load-image "$$IMAGE_CONTROLLER"; } && python -m ci.charts install'

##@ Tests

.PHONY: test
test: ## all tests but the long ones, in one run
	@$(TEST)

.PHONY: test-unit
test-unit: ## fast tests without network, and the model of the claim
	@$(TEST) unit model

.PHONY: test-chart
test-chart: ## the chart, rendered by real helm
	@$(TEST) chart

.PHONY: test-contract
test-contract: ## the contract suite against the development server, or CLEARML_CONTRACT_URL
	@$(TEST) contract

.PHONY: test-cluster
test-cluster: ## against a real API server and node
	@$(TEST) cluster

.PHONY: test-e2e
test-e2e: ## SDK to finished task, with the chart, the controller and the real agent
	@$(TEST) e2e

.PHONY: soak
soak: ## 5,000 tasks with faults, kills and outages (about 20 minutes)
	@PYTEST_ARGS="-n0 -k test_soak" $(TEST) --long cluster

.PHONY: test-long
test-long: ## the tests marked long: big matrices and soaks, every way of an upgrade, the real Kueue
	@$(TEST) --long

.PHONY: bench
bench: packages ## launch rate against a bare client's, and how tasks start, in one run
	@$(RUN) --tools all --images controller,task,bare --cluster python -m tests.bench

.PHONY: clean
clean: ## remove what builds and tests leave in the checkout (not the cache, not the cluster)
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
