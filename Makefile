# pgweir: one Makefile, no recursion. `make help` lists the targets.
O ?= build
CC ?= gcc
SAN ?=
CSTD = -std=c17 -D_GNU_SOURCE -I. -pthread
WARN = -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wcast-qual -Wstrict-prototypes \
       -Wmissing-prototypes -Wold-style-definition -Wvla -Wundef -Wwrite-strings -Wimplicit-fallthrough
OPT ?= -O2 -g
ifneq ($(SAN),)
OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all
O := $(O)/$(subst $(comma),-,$(SAN))
endif
CFLAGS += $(CSTD) $(OPT) $(WARN)
LIBS = -levent_core -levent_extra -levent_pthreads -lssl -lcrypto -linih -lm
TEST_LIBS = -lcmocka -lpq

LIB_SRC := $(filter-out proxy/main.c,$(wildcard breaker/*.c pool/*.c config/*.c proxy/*.c))
LIB_OBJ := $(LIB_SRC:%.c=$(O)/%.o)
UNIT_SRC := $(wildcard tests/t_*.c)
UNIT_BIN := $(UNIT_SRC:tests/%.c=$(O)/tests/%)

all: $(O)/pgweir
$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c $< -o $@
$(O)/libweir.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^
$(O)/pgweir: $(O)/proxy/main.o $(O)/libweir.a
	$(CC) $(CFLAGS) $^ -o $@ $(LIBS)
$(O)/tests/t_%: $(O)/tests/t_%.o $(O)/libweir.a
	$(CC) $(CFLAGS) $^ -o $@ $(TEST_LIBS) $(LIBS)
unit: $(UNIT_BIN)
	@set -e; for t in $^; do echo "== $$t"; $$t; done
-include $(shell find $(O) -name '*.d' 2>/dev/null)
.PHONY: all unit
