# pgweir: one Makefile, no recursion. `make help` lists the targets; every variable below may be
# given on the command line.
#
#   O=DIR     where everything is built (default: build); nothing is written anywhere else
#   SAN=LIST  a sanitizer build: address,undefined or thread (default O: build/LIST)
#   DEV=1     for the edit-compile loop: -Og, more debug information, unused names only warn
#   CC=clang  both gcc and clang must stay silent; a change of compiler or flags rebuilds
#   V=1       show the commands
comma := ,
Q := $(if $(V),,@)
say = $(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),,@printf '%-5s %s\n' $(1) $(2))
SAN ?=
O ?= build$(if $(SAN),/$(subst $(comma),-,$(SAN)))
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
PREFIX ?= /usr/local
DESTDIR ?=
PG_INCLUDE ?= /usr/include/postgresql
PYTHON ?= /usr/bin/python3

CSTD := -std=c17 -D_GNU_SOURCE -I. -isystem $(PG_INCLUDE) -pthread
WARN := -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wcast-qual -Wstrict-prototypes \
        -Wmissing-prototypes -Wold-style-definition -Wvla -Wundef -Wwrite-strings \
        -Wformat=2 -Wno-format-nonliteral
# clang does not take uthash's comments for the annotation they are; gcc looks out for both.
WARN += $(if $(findstring clang,$(CC)),,-Wimplicit-fallthrough)
OPT ?= -O2 -g
HARDEN := -fstack-protector-strong -fPIE
HARDEN_CPP := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
HARDEN_LD := -pie -Wl,-z,relro -Wl,-z,now
ifneq ($(DEV),)
OPT := -Og -g3
WARN += -Wno-error=unused-variable -Wno-error=unused-function -Wno-error=unused-parameter
HARDEN_CPP :=
endif
ifneq ($(SAN),)
OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all
HARDEN :=
HARDEN_CPP :=
HARDEN_LD :=
endif
ALL_CFLAGS = $(CSTD) $(OPT) $(HARDEN) $(HARDEN_CPP) $(WARN) $(CFLAGS)
ALL_LDFLAGS = -Wl,--as-needed $(HARDEN_LD) $(LDFLAGS)
LIBS := -levent_core -levent_extra -levent_pthreads -lssl -lcrypto -luring -linih -lpq -lm
TEST_LIBS := -lcmocka

# libFuzzer comes with clang only, so the fuzz targets have objects of their own.
FUZZ_CFLAGS := $(CSTD) -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all \
               $(filter-out -Wimplicit-fallthrough,$(WARN))
FUZZ_SAN := address,undefined
FUZZ_TIME ?= 60

# ---- what is built from what: found, not listed ------------------------------------------------
LIB_SRC := $(filter-out proxy/main.c,$(wildcard breaker/*.c pool/*.c config/*.c proxy/*.c))
UNIT_SRC := $(wildcard tests/t_*.c)
SIM_SRC := $(wildcard tests/sim/*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC := $(wildcard bench/*.c)
BENCH_SIM_SRC := $(wildcard bench/sim/*.c)
# Each bench/*.c with a main() is a program; the others are shared by all of them.
BENCH_MAIN := $(if $(BENCH_SRC),$(shell grep -l '^int main' $(BENCH_SRC)))
BENCH_LIB := $(filter-out $(BENCH_MAIN),$(BENCH_SRC))
MAIN_SRC := $(wildcard proxy/main.c)

obj = $(1:%.c=$(O)/obj/%.o)
UNIT_BIN := $(UNIT_SRC:tests/%.c=$(O)/tests/%)
SIM_BIN := $(if $(SIM_SRC),$(O)/tests/sim)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$(O)/fuzz/%)
BENCH_BIN := $(BENCH_MAIN:bench/%.c=$(O)/bench/%)
BENCH_SIM_BIN := $(if $(BENCH_SIM_SRC),$(O)/bench/sim)
ALL_SRC := $(LIB_SRC) $(MAIN_SRC) $(UNIT_SRC) $(SIM_SRC) $(BENCH_SRC) $(BENCH_SIM_SRC)
FUZZ_OBJ := $(LIB_SRC:%.c=$(O)/fuzz/obj/%.o)
# The simulator without its main(), for the fuzz target that drives it.
FUZZ_SIM_SRC := $(filter-out bench/sim/main.c,$(BENCH_SIM_SRC))

.PHONY: all help unit-build unit sim-build sim sim-check fuzz-build fuzz bench-build \
        everything it deps run test lint format drill bench install clean FORCE
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:

all: $(O)/pgweir ## build pgweir (the default)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
	    while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done
	@sed -n 's/^#   \([A-Z]*=[^ ]* .*\)/  \1/p' Makefile

# ---- stamps: rewritten only when their content changes, so they are never stale ----------------
$(O)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS)' | cmp -s - $@ || \
	    printf '%s\n' '$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS)' >$@
$(O)/fuzz/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CLANG) $(FUZZ_CFLAGS) $(LIBS)' | cmp -s - $@ || \
	    printf '%s\n' '$(CLANG) $(FUZZ_CFLAGS) $(LIBS)' >$@
# A source that was removed must leave the archive too.
$(O)/sources: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(LIB_SRC)' | cmp -s - $@ || printf '%s\n' '$(LIB_SRC)' >$@
FORCE:

# Goals that promise to work on a bare machine install what they need before the first compilation.
DEPS_GROUPS := $(sort $(if $(filter run test it drill bench,$(MAKECMDGOALS)),build run) \
    $(if $(filter test it,$(MAKECMDGOALS)),test) $(if $(filter drill bench,$(MAKECMDGOALS)),bench))
# Whoever types these does not think of -j.
MAKEFLAGS += $(if $(DEPS_GROUPS),-j$(shell nproc))
.PHONY: deps-of-goals
deps-of-goals:
	@$(if $(DEPS_GROUPS),.ci/deps $(DEPS_GROUPS),:)
$(O)/flags $(O)/fuzz/flags $(O)/sources: | deps-of-goals

deps: ## install the Debian packages for all of this (says which and why; sudo where not root)
	.ci/deps build run test bench

# ---- rules ---------------------------------------------------------------------------------------
$(O)/obj/%.o: %.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@
$(O)/libweir.a: $(call obj,$(LIB_SRC)) $(O)/sources
	@rm -f $@
	$(call say,AR,$@)
	$(Q)ar rcs $@ $(filter %.o,$^)
$(O)/pgweir: $(call obj,proxy/main.c) $(O)/libweir.a
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $^ -o $@ $(LIBS)
$(UNIT_BIN): $(O)/tests/%: $(O)/obj/tests/%.o $(O)/libweir.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $^ -o $@ $(TEST_LIBS) $(LIBS)
$(O)/tests/sim: $(call obj,$(SIM_SRC)) $(O)/libweir.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $^ -o $@ $(LIBS)
$(BENCH_BIN): $(O)/bench/%: $(O)/obj/bench/%.o $(call obj,$(BENCH_LIB)) $(O)/libweir.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $^ -o $@ $(LIBS)
$(O)/bench/sim: $(call obj,$(BENCH_SIM_SRC)) $(O)/libweir.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $^ -o $@ $(LIBS)

$(O)/fuzz/obj/%.o: %.c $(O)/fuzz/flags
	@mkdir -p $(@D)
	$(call say,CLANG,$<)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link,$(FUZZ_SAN) -MMD -MP -c $< -o $@
$(O)/fuzz/libweir.a: $(FUZZ_OBJ) $(O)/sources
	@rm -f $@
	$(call say,AR,$@)
	$(Q)ar rcs $@ $(filter %.o,$^)
$(O)/fuzz/fuzz_overload: $(FUZZ_SIM_SRC:%.c=$(O)/fuzz/obj/%.o)
$(FUZZ_BIN): $(O)/fuzz/%: $(O)/fuzz/obj/tests/fuzz/%.o $(O)/fuzz/libweir.a
	$(call say,LD,$@)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer,$(FUZZ_SAN) $(filter %.o,$^) $(filter %.a,$^) -o $@ $(LIBS)

unit-build: $(UNIT_BIN)
sim-build: $(SIM_BIN) $(BENCH_SIM_BIN)
bench-build: $(BENCH_BIN) $(BENCH_SIM_BIN)
fuzz-build: $(FUZZ_BIN)
everything: $(if $(MAIN_SRC),$(O)/pgweir) $(UNIT_BIN) $(SIM_BIN) $(BENCH_BIN) $(BENCH_SIM_BIN) ## build pgweir, tests, simulator, bench programs

unit: $(UNIT_BIN) ## build and run the unit tests
	@set -e; for t in $(UNIT_BIN); do echo "== $$t"; $$t; done

sim: $(BENCH_SIM_BIN) ## overload in a modelled PostgreSQL: scenarios, policies, goals (SIM=options)
	$(O)/bench/sim $(SIM)

SEEDS ?= 1..10000
sim-check: $(SIM_BIN) ## random lives of the pool against its invariants (SEEDS=1..10000)
	$(O)/tests/sim --seeds $(SEEDS)

fuzz: fuzz-build ## run each fuzz target for FUZZ_TIME seconds (60); new inputs are kept in O/corpus
	@set -e; for t in $(FUZZ_BIN); do \
	    name=$${t##*/}; mkdir -p $(O)/corpus/$$name; echo "== $$name"; \
	    seeds=tests/fuzz/corpus/$${name#fuzz_}; [ -d "$$seeds" ] || seeds=; \
	    $$t -max_total_time=$(FUZZ_TIME) -timeout=10 -rss_limit_mb=1024 -print_final_stats=0 \
	        -verbosity=0 -artifact_prefix=$(O)/corpus/ $(O)/corpus/$$name $$seeds; \
	done

it: $(O)/pgweir ## run the integration tests (CASES='pattern...' for some)
	$(PYTHON) tests/it/run.py --bin $(O)/pgweir $(if $(SAN),--small) $(CASES)

test: deps-of-goals ## build and run everything that decides whether the tree is good
	O=$(O) $(PYTHON) tests/all.py

lint: ## format, clang-tidy, layers, house rules
	O=$(O) $(PYTHON) tests/lint.py

format: ## let clang-format rewrite all C files
	clang-format -i $(wildcard $(addsuffix /*.[ch],breaker pool config proxy bench bench/sim tests tests/sim tests/fuzz))

run: $(O)/pgweir ## serve a scratch PostgreSQL, or the one of PGHOST or DATABASE, until Ctrl-C
	@O=$(O) proxy/run.sh

bench: $(O)/pgweir $(BENCH_BIN) ## CPU, system calls, memory and logins beside Debian's pgbouncer
	O=$(O) $(PYTHON) bench/bench.py

drill: $(O)/pgweir $(BENCH_BIN) ## re-enact outages beside PgBouncer, 30 min (SCENARIOS=streams ARMS=weir,tuned QUICK=1)
	O=$(O) QUICK=$(QUICK) $(PYTHON) bench/drill.py

clean: ## remove what was built
	rm -rf $(O)

install: $(O)/pgweir ## install into DESTDIR and PREFIX (/usr/local)
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin share/pgweir lib/systemd/system)
	install -m 755 $(O)/pgweir $(DESTDIR)$(PREFIX)/bin/pgweir
	install -m 644 config/pgweir.ini config/userlist.example.txt README.md LICENSE \
	    $(DESTDIR)$(PREFIX)/share/pgweir/
	sed 's|@PREFIX@|$(PREFIX)|g' config/pgweir.service \
	    >$(DESTDIR)$(PREFIX)/lib/systemd/system/pgweir.service

-include $(ALL_SRC:%.c=$(O)/obj/%.d)
-include $(if $(FUZZ_SRC),$(patsubst %.c,$(O)/fuzz/obj/%.d,$(LIB_SRC) $(FUZZ_SRC) $(FUZZ_SIM_SRC)))
