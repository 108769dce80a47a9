# `make` lists the targets. Only help and clean do without a JDK and Maven.

JAR := target/infinilora.jar
KERNELS := target/classes/io/infinilora/backend/cuda
SOURCES := pom.xml $(wildcard .mvn/*) $(shell find src/main -type f)

# Evaluated when a recipe runs; ends it with an instruction if something is missing.
TOOLS = JAVA_HOME=$$(scripts/find-jdk.sh) && export JAVA_HOME && \
	{ command -v mvn >/dev/null || { echo "error: mvn was not found; install Maven 3.8 or newer" >&2; exit 1; }; }

.DEFAULT_GOAL := help
.PHONY: help build bundle cuda run test format bench clean
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(JAR) ## Build target/infinilora.jar, without running the tests

$(JAR): $(SOURCES)
	@if NVCC=$$(scripts/find-nvcc.sh); then scripts/compile-kernels.sh "$$NVCC" $(KERNELS); \
		else echo "no CUDA compiler was found: the jar is for CPUs only (\`make cuda\` fetches one)"; fi
	@$(TOOLS) && mvn -q -B -Dmaven.test.skip=true package
	@touch $@

bundle: $(JAR) ## Pack the jar with a Java runtime of its own, below target/bundle
	@$(TOOLS) && scripts/bundle.sh $(JAR) target/bundle

cuda: ## Compile the CUDA kernels, fetching a compiler (105 MB) if there is none
	@NVCC=$$(scripts/find-nvcc.sh || scripts/fetch-nvcc.sh) && scripts/compile-kernels.sh "$$NVCC" $(KERNELS)
	@# A jar that lacks them is out of date, which no source tells make.
	@[ ! -f $(JAR) ] || [ -z "$$(find $(KERNELS) -name '*.fatbin' -newer $(JAR))" ] || \
		{ rm -f $(JAR); echo "$(JAR) lacked them: \`make build\` makes it anew"; }

run: $(JAR) ## Serve the demo model with the demo adapters; flags go in ARGS="--port 8090"
	@$(TOOLS) && MODEL=$$(scripts/fetch-model.sh) && \
		exec "$$JAVA_HOME/bin/java" -jar $(JAR) serve --model "$$MODEL" --adapters examples/adapters $(ARGS)

test: ## Run every check: formatting, unit, integration and real-model tests
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then $(MAKE) --no-print-directory cuda; fi
	@$(TOOLS) && scripts/fetch-model.sh >/dev/null && mvn -B verify

format: ## Format the sources
	@$(TOOLS) && mvn -q -B spotless:apply

bench: $(JAR) ## Measure speed beside llama.cpp (docs/performance.md explains the figures)
	@$(TOOLS) && exec scripts/bench.sh $(ARGS)

clean: ## Remove what was built
	rm -rf target
