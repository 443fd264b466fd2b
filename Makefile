# Makefile - builds, checks, tests, formats, bundles and installs the MLA testbed. "make help" says
# what there is. Every target sets itself up (harness/tools/setup.sh); objects live under $(BUILD).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

BUILD  ?= build
PREFIX ?= /usr/local
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
CFLAGS ?= -O2 -g
CUFLAGS ?= -O3 -lineinfo

# Includes name the room: "case/case.h". Bare are mla.h, mla_kernel.h and ladder.def.
INCLUDES     := -I. -Iharness -Ioptimized
# What is not to be overridden: the truth depends on some of it (no contraction, no fast-math).
HOST_FLAGS   := -std=c11 -ffp-contract=off -fopenmp -fPIC -Wall -Wextra -Wpedantic -Werror
DEVICE_FLAGS := -std=c++17 $(INCLUDES) -Xcompiler -Wall,-Wextra,-Werror,-fPIC \
                -Werror all-warnings
ASAN_FLAGS   := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

.PHONY: all demo test check-gpu bench-host asan fuzz lint format docs rung registers bundle results \
        install uninstall clean help FORCE
all: # the default target, whatever rules come first

# ---- set-up -----------------------------------------------------------------------------------
# config.mk is an included makefile: make remakes it first, whenever it is out of date, and starts
# again. All objects depend on it.

CONFIG := $(BUILD)/config.mk
GOALS  := $(or $(MAKECMDGOALS),all)
ifneq ($(filter-out help clean uninstall,$(GOALS)),)
NEEDS := $(if $(filter test lint format asan fuzz bench-host docs $(BUILD)/tests/% $(BUILD)/asan/%, \
           $(GOALS)),test,build)
$(CONFIG): FORCE
	@CONFIG_FLAGS='$(CC) $(CFLAGS) / $(CUFLAGS)' harness/tools/setup.sh $(NEEDS) $@
include $(CONFIG)
endif
# Complaints wait for what set-up finds.
CONFIGURED := $(wildcard $(CONFIG))
PYTHON := $(BUILD)/venv/bin/python

# ---- sources ----------------------------------------------------------------------------------
# A folder of harness/ is a room (harness/layers.def). The library is reference/ and harness/lib/, the
# other rooms belong to the program. Where X_none.c exists, it stands in for X.c without nvcc.

C_FILES      := $(wildcard reference/*.c harness/*/*.c)
NONE_C       := $(filter %_none.c,$(C_FILES))
WITH_CUDA    := $(filter-out $(NONE_C),$(C_FILES))
WITHOUT_CUDA := $(filter-out $(NONE_C:_none.c=.c),$(C_FILES))
HOST_C       := $(if $(NVCC),$(WITH_CUDA),$(WITHOUT_CUDA))
LIB_C        := $(filter reference/% harness/lib/%,$(HOST_C))
MAIN_C       := harness/cli/main.c

# The ladder: name:architecture:spills, from one line per kernel.
LADDER_LINES := $(shell grep -c '^ *MLA_KERNEL' optimized/ladder.def)
LADDER       := $(shell sed -n \
  's/^MLA_KERNEL(\([0-9a-z_]*\), \(sm_80\|sm_90a\), \(nospill\|spills\))$$/\1:\2:\3/p' \
  optimized/ladder.def)
RUNGS        := $(foreach line,$(LADDER),$(word 1,$(subst :, ,$(line))))
DEVICE_CU    := $(filter-out $(wildcard optimized/[0-9]*),$(wildcard optimized/*.cu))
# What the program itself runs on a GPU: inputs, comparisons, ceilings.
HARNESS_CU   := $(wildcard harness/device/*.cu)

ifneq ($(and $(CONFIGURED),$(NVCC)),)
ifneq ($(words $(LADDER)),$(LADDER_LINES))
$(error optimized/ladder.def has a line that is not MLA_KERNEL(NN_idea, sm_80 or sm_90a, nospill or spills))
endif
$(foreach file,$(wildcard optimized/[0-9]*.cu),$(if $(filter $(notdir $(file:.cu=)),$(RUNGS)),, \
  $(error $(file) has no line in optimized/ladder.def: add MLA_KERNEL($(notdir $(file:.cu=)), sm_80, nospill))))
$(foreach rung,$(RUNGS),$(if $(wildcard optimized/$(rung).cu),, \
  $(error optimized/ladder.def names $(rung), but there is no optimized/$(rung).cu)))
endif

# ---- objects ----------------------------------------------------------------------------------

obj      = $(patsubst %.c,$(BUILD)/$(1)/%.o,$(2))
LIB_O   := $(call obj,obj,$(LIB_C))
MAIN_O  := $(call obj,obj,$(MAIN_C))
HOST_O  := $(call obj,obj,$(filter-out $(MAIN_C),$(HOST_C)))
ASAN_O  := $(call obj,asan,$(filter-out $(MAIN_C),$(WITHOUT_CUDA)))
ifneq ($(NVCC),)
MERGE_O := $(patsubst %.cu,$(BUILD)/obj/%.o,$(DEVICE_CU))
RUNG_O  := $(foreach rung,$(RUNGS),$(BUILD)/obj/optimized/$(rung).o)
HOST_O  += $(patsubst %.cu,$(BUILD)/obj/%.o,$(HARNESS_CU))
CUDA_FLAGS := -isystem $(CUDA_INCLUDE)
CUDA_LIBS  := $(CUDA_LIB)/libcudart_static.a -ldl -lrt -lpthread
LINK       := $(CXX) -static-libstdc++ -static-libgcc
else
CUDA_FLAGS := -DMLA_WITHOUT_NVCC
LINK       := $(CC)
endif
LIBS := $(MODULES_LIBS) $(CUDA_LIBS) -ldl -lm

Q := $(if $(V),,@)
say = @printf '%-5s %s\n' '$(1)' '$(2)'

# Library, program and the results that they write say which commit they were built from.
COMMIT := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
$(BUILD)/commit: FORCE $(CONFIG)
	@[ "$$(cat $@ 2>/dev/null)" = '$(COMMIT)' ] || echo '$(COMMIT)' >$@
$(BUILD)/obj/harness/lib/version.o: $(BUILD)/commit
$(BUILD)/obj/harness/lib/version.o: DEFINES := -DMLA_COMMIT='"$(COMMIT)"'
$(BUILD)/obj/harness/report/results.o: DEFINES := -DMLA_FLAGS='"$(CFLAGS) / $(CUFLAGS)"'

$(BUILD)/obj/%.o: %.c $(CONFIG)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOST_FLAGS) $(DEFINES) $(INCLUDES) $(MODULES_CFLAGS) $(CUDA_FLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

# No CUDA under the sanitizers: the two do not share an address space well.
$(BUILD)/asan/%.o: %.c $(CONFIG)
	$(call say,ASAN,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOST_FLAGS) $(INCLUDES) $(MODULES_CFLAGS) -DMLA_WITHOUT_NVCC -O1 -g $(ASAN_FLAGS) -MMD -MP -c $< -o $@

# Machine code for 8.0 and 9.0, and PTX that newer GPUs compile when the program starts; sm_90a
# (TMA, wgmma) runs on compute capability 9.0 alone.
CODE_sm_80  := -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 \
               -gencode arch=compute_90,code=compute_90
CODE_sm_90a := -gencode arch=compute_90a,code=sm_90a
CODE_both   := -gencode arch=compute_80,code=sm_80 $(CODE_sm_90a) \
               -gencode arch=compute_90,code=compute_90
GATE_spills  := -Xptxas -v
GATE_nospill := -Xptxas -v,-warn-spills,-warn-lmem-usage,-Werror

# The compiler's words stay beside the object (registers, shared memory: make registers). ptxas only
# warns when it serialises wgmma (C75xx), which makes a kernel several times slower: an error here.
# $(1): source without .cu, $(2): architecture or both, $(3): nospill or spills
define device_rule
$(BUILD)/obj/$(1).o: $(1).cu $(CONFIG)
	$$(call say,NVCC,$$< ($(2)))
	@mkdir -p $$(@D)
	$(Q)"$(NVCC)" -ccbin $(CXX) $(CODE_$(2)) $(GATE_$(3)) $(DEVICE_FLAGS) $(CUFLAGS) -MMD -MP \
		-c $$< -o $$@ >$(BUILD)/obj/$(1).ptxas 2>&1 || { cat $(BUILD)/obj/$(1).ptxas; exit 1; }
	@if grep -E 'C75[0-9][0-9]' $(BUILD)/obj/$(1).ptxas; then \
		echo "$(1).cu: ptxas serialises wgmma, see above"; exit 1; fi
endef
$(foreach file,$(DEVICE_CU),$(eval $(call device_rule,$(file:.cu=),sm_80,nospill)))
$(foreach file,$(HARNESS_CU),$(eval $(call device_rule,$(file:.cu=),both,nospill)))
$(foreach line,$(LADDER),$(eval $(call device_rule,$(strip \
  optimized/$(word 1,$(subst :, ,$(line)))),$(word 2,$(subst :, ,$(line))),$(word 3,$(subst :, ,$(line))))))

# ---- library and program ----------------------------------------------------------------------
# The program contains the library's objects (its checker uses the reference behind mla.h). Its
# RPATH finds the libraries that a bundle carries, theirs included (hence not RUNPATH).

MLA := $(BUILD)/bin/mla
SO  := $(BUILD)/lib/libmla.so
RELOCATABLE := -Wl,--as-needed,--disable-new-dtags,-rpath,'$$ORIGIN/../lib'

# mla plot looks for its script beside the program, as in a bundle and an installation; the package
# that it belongs to, and the drop-in class, travel with it.
SCRIPTS := $(wildcard harness/python/mla/*.py)
SHARE   := $(BUILD)/share/mla/python

all: $(MLA) $(SO) $(SHARE)

$(SHARE): $(CONFIG)
	@mkdir -p $(@D)
	@ln -sfn '$(CURDIR)/harness/python' $@

$(MLA): $(HOST_O) $(MERGE_O) $(RUNG_O) $(MAIN_O)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -fopenmp $(LDFLAGS) $(RELOCATABLE) $^ $(LIBS) -o $@

# The library exports what mla.h declares and nothing else.
$(BUILD)/libmla.map: harness/mla.h
	@mkdir -p $(@D)
	@{ echo '{ global:'; grep -oE '\bmla_[a-z0-9_]+\(' $< | sort -u | tr '(' ';'; \
		echo 'local: *; };'; } >$@

$(SO): $(LIB_O) $(MERGE_O) $(RUNG_O) $(BUILD)/libmla.map
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -shared -fopenmp $(LDFLAGS) $(RELOCATABLE) -Wl,-z,defs,-soname,libmla.so \
		-Wl,--version-script,$(BUILD)/libmla.map $(filter %.o,$^) $(CUDA_LIBS) -lm -o $@

registers: $(MERGE_O) $(RUNG_O)
	@harness/tools/registers.sh $(^:.o=.ptxas)

# ---- one rung alone: make rung R=02_splitk (or 02, or splitk) ----------------------------------
# Its own ladder of one line, its own program, checked on the shipped captures.

CAPTURES := $(wildcard data/captures/*.h5)
RUNG := $(filter $(R) 0$(R)_% $(R)_% %_$(R),$(RUNGS))
ifneq ($(and $(CONFIGURED),$(filter rung,$(GOALS))),)
ifneq ($(words $(RUNG)),1)
$(error make rung R=NAME: "$(R)" is not one of $(RUNGS))
endif
ifeq ($(NVCC),)
$(error make rung needs nvcc, which was not found)
endif
endif
RUNG_DIR := $(BUILD)/rung/$(RUNG)

rung: $(RUNG_DIR)/mla
	@harness/tools/registers.sh $(BUILD)/obj/optimized/$(RUNG).ptxas
	$(RUNG_DIR)/mla check -k $(RUNG) $(CAPTURES) || { [ $$? = 77 ] && echo 'built, not run'; }

$(RUNG_DIR)/ladder.def: optimized/ladder.def
	@mkdir -p $(@D)
	@grep '^MLA_KERNEL($(RUNG),' $< >$@

$(RUNG_DIR)/ladder.o: harness/lib/ladder.c $(RUNG_DIR)/ladder.def $(CONFIG)
	$(Q)$(CC) $(HOST_FLAGS) -I$(RUNG_DIR) $(INCLUDES) $(CUDA_FLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(RUNG_DIR)/mla: $(RUNG_DIR)/ladder.o $(filter-out %/ladder.o,$(HOST_O)) $(MERGE_O) \
                 $(BUILD)/obj/optimized/$(RUNG).o $(MAIN_O)
	$(call say,LINK,$@)
	$(Q)$(LINK) -fopenmp $(LDFLAGS) $(RELOCATABLE) $^ $(LIBS) -o $@

# ---- tests ------------------------------------------------------------------------------------
# Each tests/test_*.c is a Criterion program linked with everything but main.c; each tests/bench_*.c
# a program that prints figures and fails when a bound is missed; other tests/*.c are programs that
# Python tests call.

TEST_C   := $(wildcard tests/*.c)
SAMPLE_C := $(wildcard tests/wrong/*.c tests/right/*.c)
SUITES   := $(patsubst %.c,$(BUILD)/%,$(filter tests/test_%,$(TEST_C)))
BENCHES  := $(patsubst %.c,$(BUILD)/%,$(filter tests/bench_%,$(TEST_C)))
PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(filter-out tests/test_% tests/bench_%,$(TEST_C)))
FUZZERS  := $(patsubst %.c,$(BUILD)/asan/%,$(wildcard tests/fuzz/*.c))
ASAN_SUITES := $(patsubst %.c,$(BUILD)/asan/%,$(filter tests/test_%,$(TEST_C)))
ASAN_MLA := $(BUILD)/asan/bin/mla
RUN_TESTS := BUILD=$(BUILD) PYTHON=$(PYTHON) MLA=$(MLA) tests/run.sh

$(BUILD)/tests/test_cli: | $(MLA)
$(BUILD)/asan/tests/test_cli: | $(ASAN_MLA)
$(BUILD)/tests/test_samples: $(call obj,obj,$(SAMPLE_C))
$(BUILD)/asan/tests/test_samples: $(call obj,asan,$(SAMPLE_C))

$(SUITES) $(BENCHES) $(PROGRAMS): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(HOST_O) $(MERGE_O) \
                                  $(RUNG_O)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -fopenmp $(LDFLAGS) $^ $(if $(filter $@,$(SUITES)),-lcriterion) $(LIBS) -o $@

$(ASAN_SUITES) $(FUZZERS): $(BUILD)/asan/tests/%: $(BUILD)/asan/tests/%.o $(ASAN_O)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -fopenmp $(ASAN_FLAGS) $(LDFLAGS) $^ $(if $(filter $@,$(ASAN_SUITES)),-lcriterion) \
		$(MODULES_LIBS) -ldl -lm -o $@

$(ASAN_MLA): $(ASAN_O) $(call obj,asan,$(MAIN_C))
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -fopenmp $(ASAN_FLAGS) $(LDFLAGS) $^ $(MODULES_LIBS) -ldl -lm -o $@

test: all $(SUITES) $(BENCHES) $(PROGRAMS) $(ASAN_SUITES)
	@$(RUN_TESTS) lint:tests/lint.sh $(SUITES:%=criterion:%) $(ASAN_SUITES:%=criterion:%) \
		$(BENCHES:%=bench:%) $(patsubst %,python:%,$(wildcard tests/test_*.py data/capture/test_*.py)) suite:gpu

asan: $(ASAN_SUITES)
	@$(RUN_TESTS) $(^:%=criterion:%)

fuzz: $(FUZZERS)
	$(foreach fuzzer,$^,$(fuzzer) $(COUNT) $(SEED) &&) true

bench-host: $(BENCHES)
	@$(RUN_TESTS) $(^:%=bench:%)

check-gpu: $(MLA)
	@$(RUN_TESTS) suite:gpu

lint: $(SO)
	@$(RUN_TESTS) lint:tests/lint.sh

format:
	clang-format-14 -i $(wildcard $(foreach folder,reference optimized harness harness/* tests tests/*, \
		$(addprefix $(folder)/,*.c *.h *.cu *.cuh)))

# ---- the main job, bundle, install ------------------------------------------------------------

demo: $(MLA)
	$(MLA) check $(CAPTURES)

# README's table and the lessons' figures, from data/results/ and what the program says of cells;
# CHECK=1 only says what is stale.
# Where nvcc is, the kernels' registers are written down first.
docs: $(if $(and $(NVCC),$(if $(CHECK),,1)),$(MERGE_O) $(RUNG_O)) | $(MLA)
	harness/tools/map.py $(if $(CHECK),--check)
	MLA_PROGRAM=$(MLA) $(PYTHON) -B harness/tools/docs.py \
		$(if $(CHECK),--check,$(if $^,--nvcc '$(NVCC)' --ptxas $(^:.o=.ptxas)))

# data/results/$(GPU)/ anew, on the machine with the GPU; PYTHON=... is one that has torch.
results: $(MLA) $(SO)
	@$(if $(GPU),,$(error make results: name the GPU as its folder is called, GPU=h200))
	harness/tools/measure.sh $(MLA) data/results/$(GPU) $(CAPTURES)

bundle: $(MLA) $(SO)
	@NVCC='$(NVCC)' harness/tools/bundle.sh $(BUILD)

install: $(MLA) $(SO)
	install -d $(DESTDIR)$(PREFIX)/{bin,lib,include,share/mla/captures,share/mla/python/mla}
	install -m 755 $(MLA) $(DESTDIR)$(PREFIX)/bin/mla
	install -m 644 $(SO) $(DESTDIR)$(PREFIX)/lib/libmla.so
	install -m 644 harness/mla.h $(DESTDIR)$(PREFIX)/include/mla.h
	install -m 644 data/FORMAT.md $(CAPTURES) $(DESTDIR)$(PREFIX)/share/mla/captures
	install -m 644 harness/python/flashinfer_mla.py $(DESTDIR)$(PREFIX)/share/mla/python
	install -m 644 $(SCRIPTS) $(DESTDIR)$(PREFIX)/share/mla/python/mla

uninstall:
	rm -rf $(DESTDIR)$(PREFIX)/share/mla
	rm -f $(DESTDIR)$(PREFIX)/{bin/mla,lib/libmla.so,include/mla.h}

clean:
	rm -rf $(BUILD)

help:
	@echo 'make              the program $(BUILD)/bin/mla and the library $(BUILD)/lib/libmla.so'
	@echo 'make demo         checks every implementation on the shipped captures'
	@echo 'make test         everything: lint, unit tests, sanitizers, Python tests, GPU if there is one'
	@echo 'make rung R=NAME  builds one kernel alone and checks it (02_splitk, 02 or splitk)'
	@echo 'make registers    registers, shared memory and spills of every kernel'
	@echo 'make check-gpu    the GPU suite: every kernel on generated and captured cases'
	@echo 'make asan | lint | bench-host      parts of make test'
	@echo 'make fuzz         mutated capture files, under the sanitizers; COUNT=3000 SEED=1'
	@echo 'make format       clang-format 14 over all sources'
	@echo 'make docs         tables of README and lessons from data/results/; CHECK=1: are they stale?'
	@echo 'make results      data/results/$$(GPU)/ anew, on the machine with the GPU; GPU=h200'
	@echo 'make bundle       $(BUILD)/bundle: a folder that runs on machines without these tools'
	@echo 'make install | uninstall           PREFIX=$(PREFIX) DESTDIR='
	@echo 'make clean'
	@echo 'Variables: BUILD=dir  NVCC=path (empty: no CUDA)  CC CXX CFLAGS CUFLAGS  V=1  SETUP=no'

-include $(patsubst %.o,%.d,$(wildcard $(BUILD)/*/*/*.o $(BUILD)/*/*/*/*.o))
