# Makefile - builds, checks, tests, formats, bundles and installs the MLA testbed. "make help" says
# what there is. Every target sets itself up (harness/tools/setup.sh); objects live under $(BUILD).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

ifeq ($(wildcard harness/tools/setup.sh),)
$(error this makefile works in its own folder: make -C FOLDER, not make -f FOLDER/Makefile)
endif
BUILD  ?= build
PREFIX ?= /usr/local
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
# DEBUG=1 is what make debug says to itself; the environment's means something else.
ifneq ($(origin DEBUG),command line)
override DEBUG :=
endif
ifneq ($(DEBUG),)
CFLAGS  ?= -O0 -g3
CUFLAGS ?= -g -G -DMLA_TRAPS
CUFLAGS_sm_90a := -O3 -lineinfo -DMLA_TRAPS
CUFLAGS_both   := -O3 -lineinfo
else
CFLAGS  ?= -O2 -g
CUFLAGS ?= -O3 -lineinfo
endif

# ---- what the caller gave -----------------------------------------------------------------------
# Paths become names of targets, which end at a space, and words of a shell. A bad one is told so before
# anything else happens. All else in here is relative: the folder of this file may be called anything.

hash := \#
define newline


endef
# $(call sh,TEXT): one word of a shell, whatever is in it.
sh = '$(subst ','\'',$(1))'
# $(call expect,NAME,WORDS): ends here.
expect = $(error $(1) is "$(value $(1))", expected $(2))
# make has expanded a "$" before anybody can tell what was meant.
check_path = $(if $(findstring $$,$(value $(1))),$(call expect,$(1),a path without "$$"))$(strip \
  )$(if $(findstring $(newline),$(value $(1))),$(call expect,$(1),a path in one line))$(strip \
  )$(if $(filter ~%,$(firstword $(value $(1)))),$(call expect,$(1),a path without ~: no shell has expanded that))

$(call check_path,BUILD)
BUILD_PATH := $(shell realpath -ms --relative-base=. -- $(call sh,$(BUILD)) 2>/dev/null)
$(if $(BUILD_PATH),,$(call expect,BUILD,a path))
$(if $(filter-out 1,$(words $(BUILD_PATH))),$(call expect,BUILD,a path without spaces: names of targets end at one))
# What make, a shell or a compiler reads otherwise.
ODD := " ' ` \ $(hash) % : ; , = ( ) { } [ ] * ? < > | & ! ^ ~
$(foreach odd,$(ODD),$(if $(findstring $(odd),$(BUILD_PATH)),$(call expect,BUILD,a path without $(odd))))
$(if $(filter -% +% @%,$(BUILD_PATH)),$(call expect,BUILD,a path that begins otherwise))
override BUILD := $(BUILD_PATH)
WHY := $(shell harness/tools/build_folder.sh look $(BUILD))
$(if $(WHY),$(error $(WHY)))

# The conventional flags reach compilers; set-up asks what they made of arithmetic (arithmetic.sh). On a GPU
# nothing is asked.
$(foreach flag,use_fast_math ftz=true prec-div=false prec-sqrt=false fast-math,$(foreach name,CUFLAGS \
  NVCC_PREPEND_FLAGS NVCC_APPEND_FLAGS,$(if $(findstring $(flag),$($(name))),$(call expect,$(name),no $(flag): \
  a kernel that wants an approximation calls it by its name))))

# Includes name the room: "case/case.h". Bare are mla.h, mla_kernel.h and ladder.def.
INCLUDES     := -I. -Iharness -Ioptimized
HOST_FLAGS   := -fopenmp -fPIC -Wall -Wextra -Wpedantic -Wmissing-prototypes -Werror
# What is not to be overridden, behind all flags of the caller: the truth depends on it.
STRICT_FLAGS := -std=c11 -ffp-contract=off
COMPILE       = $(CC) $(HOST_FLAGS) $(CPPFLAGS) $(CFLAGS) $(STRICT_FLAGS)
# Functions that nothing calls are named by nvcc's front end; clang as its host compiler names those
# of CUDA's headers.
DEVICE_FLAGS := -std=c++17 $(INCLUDES) -Xcompiler=-Wall,-Wextra,-Werror,-fPIC,-Wno-unused-function \
                $(if $(DEBUG),,-Werror=all-warnings)
# gcc says by that macro that sources are under the sanitizer, clang does not. No loop is vectorised
# there, and clang says so for every "omp simd".
ASAN_FLAGS   := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
                -D__SANITIZE_ADDRESS__=1 -Wno-pass-failed

.PHONY: all demo test suites check-gpu bench-host asan fuzz lint format docs rung watch sass bench emulate debug \
        compile_commands hooks registers bundle results install uninstall clean help FORCE
all: # the default target, whatever rules come first

# ---- set-up -----------------------------------------------------------------------------------
# config.mk is an included makefile: make remakes it first, whenever it is out of date, and starts
# again. All objects depend on it. A goal installs the groups that it needs and no others.

CONFIG := $(BUILD)/config.mk
PYTHON := $(BUILD)/venv/bin/python
GOALS  := $(or $(MAKECMDGOALS),all)

NEEDS_test       := suites lint python notebooks
NEEDS_suites     := suites
NEEDS_asan       := suites
NEEDS_fuzz       := suites
NEEDS_bench-host := suites
NEEDS_lint       := lint
NEEDS_docs       := python
NEEDS_sass       := sass
NEEDS := build $(if $(findstring clang,$(CC) $(CXX)),clang) $(foreach goal,$(GOALS),$(NEEDS_$(goal))) \
         $(if $(filter $(BUILD)/tests/% $(BUILD)/asan/%,$(GOALS)),suites)
# What the caller said about nvcc, before config.mk says what was found.
NVCC_IS := looked for
ifneq ($(origin NVCC),undefined)
NVCC_IS    := $(NVCC)
given_nvcc := NVCC=$(call sh,$(NVCC))
endif
setup = $(given_nvcc) BUILD=$(BUILD) CC=$(call sh,$(CC)) CXX=$(call sh,$(CXX)) \
        CONFIG_FLAGS=$(call sh,$(CC) $(CFLAGS) / $(CUFLAGS)) COMPILE=$(call sh,$(COMPILE)) \
        LDFLAGS=$(call sh,$(LDFLAGS)) harness/tools/setup.sh $(1)

SOURCELESS := help clean uninstall format hooks
ifneq ($(filter-out $(SOURCELESS),$(GOALS)),)
$(CONFIG): FORCE
	@$(call setup,$(NEEDS))
include $(CONFIG)
endif
# Complaints wait for what set-up finds.
ifeq ($(NVCC_IS),$(NVCC_WAS))
CONFIGURED := $(wildcard $(CONFIG))
endif

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
ifneq ($(filter-out $(SOURCELESS),$(GOALS)),)
LADDER := $(shell harness/tools/ladder.sh)
ifneq ($(.SHELLSTATUS),0)
$(error the ladder is not sound: what to do stands above)
endif
endif
line_name   = $(word 1,$(subst :, ,$(1)))
line_arch   = $(word 2,$(subst :, ,$(1)))
line_spills = $(word 3,$(subst :, ,$(1)))
RUNGS      := $(foreach line,$(LADDER),$(call line_name,$(line)))
DEVICE_CU  := $(filter-out $(wildcard optimized/[0-9]*),$(wildcard optimized/*.cu))
# What the program itself runs on a GPU: inputs, comparisons, ceilings.
HARNESS_CU := $(wildcard harness/device/*.cu)

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
CUDA_FLAGS := -isystem $(call sh,$(CUDA_INCLUDE))
CUDA_LIBS  := $(call sh,$(CUDA_LIB)/libcudart_static.a) -ldl -lrt -lpthread
LINK       := $(CXX) -static-libstdc++ -static-libgcc
else
CUDA_FLAGS := -DMLA_WITHOUT_NVCC
LINK       := $(CC)
endif
LIBS := $(MODULES_LIBS) $(CUDA_LIBS) -ldl -lm

comma := ,
Q := $(if $(V),,@)
say = @printf '%-5s %s\n' '$(1)' '$(2)'

# Library, program and the results that they write say which commit they were built from. A copy in
# somebody else's repository is not of that one's commit; git writes an archive's own into .commit.
COMMIT := $(shell unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE; \
  { if [ "$$(git rev-parse --show-toplevel)" = "$$(pwd -P)" ]; then git describe --always --dirty; \
  else grep -v Format .commit || echo unknown; fi; } 2>/dev/null | tr -cd '[:alnum:]._/+-')
ifneq ($(COMMIT),$(shell cat $(BUILD)/commit 2>/dev/null))
$(BUILD)/commit: FORCE
endif
$(BUILD)/commit: | $(CONFIG)
	@echo '$(COMMIT)' >$@
$(BUILD)/obj/harness/lib/version.o: $(BUILD)/commit
# What one object is told besides.
DEFINES :=
$(BUILD)/obj/harness/lib/version.o: DEFINES := -DMLA_COMMIT='"$(COMMIT)"'
c_string = $(call sh,"$(subst ",\",$(subst \,\\,$(1)))")
$(BUILD)/obj/harness/report/results.o: DEFINES := -DMLA_FLAGS=$(call c_string,$(CFLAGS) / $(CUFLAGS))

# Criterion's tests and the samples of tests/wrong have no headers.
$(BUILD)/obj/tests/%.o $(BUILD)/asan/tests/%.o: HOST_FLAGS += -Wno-missing-prototypes

$(BUILD)/obj/%.o: %.c $(CONFIG)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) $(DEFINES) $(INCLUDES) $(MODULES_CFLAGS) $(CUDA_FLAGS) -MMD -MP -c $< -o $@

# No CUDA under the sanitizers: the two do not share an address space well.
$(BUILD)/asan/%.o: %.c $(CONFIG)
	$(call say,ASAN,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOST_FLAGS) $(STRICT_FLAGS) $(INCLUDES) $(MODULES_CFLAGS) -DMLA_WITHOUT_NVCC -O1 -g $(ASAN_FLAGS) \
		-MMD -MP -c $< -o $@

# Machine code for 8.0 and 9.0, and PTX that newer GPUs compile when the program starts; sm_90a
# (TMA, wgmma) runs on compute capability 9.0 alone.
CODE_sm_80  := -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90,code=sm_90 \
               -gencode=arch=compute_90,code=compute_90
CODE_sm_90a := -gencode=arch=compute_90a,code=sm_90a
CODE_both   := -gencode=arch=compute_80,code=sm_80 $(CODE_sm_90a) \
               -gencode=arch=compute_90,code=compute_90
GATE_spills  := -Xptxas=-v
# Code that a debugger can follow keeps its variables in local memory.
GATE_nospill := -Xptxas=-v$(if $(DEBUG),,$(comma)-warn-spills$(comma)-warn-lmem-usage$(comma)-Werror)

# The compiler's words stay beside the object (registers, shared memory: make registers). ptxas only
# warns when it serialises wgmma (C75xx), which makes a kernel several times slower: an error here.
# $(1): folder of the object, $(2): source without .cu, $(3): architecture or both, $(4): nospill or
# spills
define device_rule
$(1)/$(2).o: $(2).cu $(CONFIG)
	$$(call say,NVCC,$$< ($(3)))
	@mkdir -p $$(@D)
	$(Q)"$(NVCC)" -ccbin=$(CXX) $(CODE_$(3)) $(GATE_$(4)) $(DEVICE_FLAGS) $(or $(CUFLAGS_$(3)),$(CUFLAGS)) \
		-MMD -MP -c $$< -o $$@ >$(1)/$(2).ptxas 2>&1 || { cat $(1)/$(2).ptxas; exit 1; }
	@if grep -E 'C75[0-9][0-9]' $(1)/$(2).ptxas; then \
		echo "$(2).cu: ptxas serialises wgmma, see above"; exit 1; fi
endef
$(foreach file,$(DEVICE_CU),$(eval $(call device_rule,$(BUILD)/obj,$(file:.cu=),sm_80,nospill)))
$(foreach file,$(HARNESS_CU),$(eval $(call device_rule,$(BUILD)/obj,$(file:.cu=),both,nospill)))
$(foreach line,$(LADDER),$(eval $(call device_rule,$(BUILD)/obj,optimized/$(call line_name,$(line)),$(strip \
  $(call line_arch,$(line))),$(call line_spills,$(line)))))

# ---- library and program ----------------------------------------------------------------------
# The program contains the library's objects (its checker uses the reference behind mla.h). Its
# RPATH finds the libraries that a bundle carries, theirs included (hence not RUNPATH).

MLA := $(BUILD)/bin/mla
SO  := $(BUILD)/lib/libmla.so
RELOCATABLE := -Wl,--as-needed,--disable-new-dtags,-rpath,'$$ORIGIN/../lib'

# mla plot looks for its script beside the program, as in a bundle and an installation.
SHARE := $(BUILD)/share/mla/python

all: $(MLA) $(SO)

$(SHARE): $(CONFIG)
	@mkdir -p $(@D)
	@ln -sfn "$$PWD/harness/python" $@

$(MLA): $(HOST_O) $(MERGE_O) $(RUNG_O) $(MAIN_O) | $(SHARE)
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

# ---- the ladder on this CPU ---------------------------------------------------------------------
# The same kernel files and the same C files, with the emulator in place of CUDA's headers and runtime
# (optimized/emulator/). Needs no nvcc; nothing is timed, so the program's own kernels stay out.

EMU       := $(BUILD)/emulated
EMU_MLA   := $(EMU)/mla
EMU_C     := harness/lib/run.c harness/device/gpu.c harness/lib/ladder.c
EMU_SHARE := $(filter-out $(foreach file,$(EMU_C),%/$(file:.c=_none.o) %/$(file:.c=.o)) \
  %/bulk.o %/peak.o %/probe.o,$(call obj,obj,$(filter-out $(MAIN_C),$(WITHOUT_CUDA))))
EMU_O     := $(patsubst optimized/emulator/%.cpp,$(EMU)/core/%.o,$(wildcard optimized/emulator/*.cpp))
EMU_RUNGS := $(patsubst %,$(EMU)/kernel/%.o,$(RUNGS) $(DEVICE_CU:optimized/%.cu=%))
# -fsanitize=thread when a kernel is compiled, never when it is linked: the compiler calls the emulator
# before every access, and where a pointer is not aligned to its type. Products and sums are contracted as
# nvcc does it. A call into the emulator at a function's end stays a call: reports name its line.
EMU_HOOKS := -fsanitize=thread -fsanitize=alignment -fno-optimize-sibling-calls $(if $(findstring clang,$(CXX)),-mllvm -tsan-instrument-func-entry-exit=0 \
  -mllvm -tsan-distinguish-volatile=1,--param tsan-instrument-func-entry-exit=0 --param tsan-distinguish-volatile=1)
EMU_CPU   := $(if $(filter x86_64,$(shell uname -m)),-march=x86-64-v3)
EMU_FLAGS := -std=c++17 -g -fno-pie $(EMU_CPU) -Wall -Wextra -Werror -DMLA_EMULATED -Ioptimized/emulator \
             $(INCLUDES)
EMU_OPT   ?= -O2
# Static shared memory into one section; copies of structs through the emulator.
EMU_MOVE  := --set-section-flags .bss=alloc,load,contents --rename-section .bss=emulator_shared \
             --redefine-sym memcpy=emulator_memcpy --redefine-sym memmove=emulator_memmove \
             --redefine-sym memset=emulator_memset
emulated_kernel = $(CXX) $(EMU_FLAGS) $(EMU_OPT) -ffp-contract=fast $(EMU_HOOKS) \
  -fno-strict-aliasing -Wno-pass-failed -Wno-unknown-pragmas -Wno-psabi -Wno-missing-field-initializers -Wno-unused-function -MMD -MP -x c++ -c $(1) -o $(2) && objcopy $(EMU_MOVE) $(2)

# Small kernels that use what rungs use and will use, and each part alone (tests/emulated/): programs for
# the emulator and for a GPU of compute capability 9.0.
KERNEL_CU := $(wildcard tests/emulated/*.cu)
PART_CU   := $(wildcard tests/emulated/parts/*.cu)
EMU_TESTS := $(EMU)/kernels $(EMU)/parts
GPU_TESTS := $(if $(NVCC),$(BUILD)/tests/kernels $(BUILD)/tests/parts)

.PHONY: emulated
emulated: $(EMU_MLA) $(EMU_TESTS)

$(EMU)/core/%.o: optimized/emulator/%.cpp $(CONFIG)
	$(call say,EMU,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(EMU_FLAGS) -O2 -MMD -MP -c $< -o $@

$(EMU)/kernel/%.o: optimized/%.cu $(CONFIG)
	$(call say,EMU,$<)
	@mkdir -p $(@D)
	$(Q)$(call emulated_kernel,$<,$@)

$(EMU)/c/%.o: %.c $(CONFIG)
	$(call say,EMU,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) $(INCLUDES) -Ioptimized/emulator -MMD -MP -c $< -o $@

$(EMU_MLA): $(EMU_SHARE) $(call obj,obj,$(MAIN_C)) $(EMU_C:%.c=$(EMU)/c/%.o) $(EMU_O) $(EMU_RUNGS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) -no-pie -fopenmp $(LDFLAGS) $^ $(MODULES_LIBS) -ldl -lm -o $@

$(EMU)/tests/%.o: tests/emulated/%.cu $(CONFIG)
	$(call say,EMU,$<)
	@mkdir -p $(@D)
	$(Q)$(call emulated_kernel,$<,$@)

$(EMU)/kernels: $(KERNEL_CU:tests/emulated/%.cu=$(EMU)/tests/%.o)
$(EMU)/parts:   $(PART_CU:tests/emulated/%.cu=$(EMU)/tests/%.o)
$(EMU_TESTS): $(EMU_O)
	$(call say,LINK,$@)
	$(Q)$(CXX) -no-pie $(LDFLAGS) $^ -lm -o $@

# The emulator itself under the sanitizers. Kernels stay as they are: their accesses go through the
# emulator, which knows better than the sanitizer what is theirs.
ASAN_EMU   := $(BUILD)/asan/emulated
ASAN_EMU_O := $(EMU_O:$(EMU)/core/%=$(ASAN_EMU)/core/%)
ASAN_TESTS := $(EMU_TESTS:$(EMU)/%=$(ASAN_EMU)/%)

$(ASAN_EMU)/core/%.o: optimized/emulator/%.cpp $(CONFIG)
	$(call say,ASAN,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(EMU_FLAGS) -O1 $(ASAN_FLAGS) -MMD -MP -c $< -o $@

$(ASAN_EMU)/%.o: %.c $(CONFIG)
	$(call say,ASAN,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOST_FLAGS) $(STRICT_FLAGS) $(INCLUDES) -Ioptimized/emulator -O1 -g $(ASAN_FLAGS) \
		-MMD -MP -c $< -o $@

$(ASAN_EMU)/mla: $(EMU_SHARE:$(BUILD)/obj/%=$(BUILD)/asan/%) $(call obj,asan,$(MAIN_C)) \
                 $(EMU_C:%.c=$(ASAN_EMU)/%.o) $(ASAN_EMU_O) $(EMU_RUNGS)
	$(call say,LINK,$@)
	$(Q)$(CXX) -no-pie -fopenmp $(ASAN_FLAGS) $(LDFLAGS) $^ $(MODULES_LIBS) -ldl -lm -o $@

$(ASAN_EMU)/kernels: $(KERNEL_CU:tests/emulated/%.cu=$(EMU)/tests/%.o)
$(ASAN_EMU)/parts:   $(PART_CU:tests/emulated/%.cu=$(EMU)/tests/%.o)
$(ASAN_TESTS): $(ASAN_EMU_O)
	$(call say,LINK,$@)
	$(Q)$(CXX) -no-pie $(ASAN_FLAGS) $(LDFLAGS) $^ -lm -o $@

$(foreach file,$(KERNEL_CU) $(PART_CU),$(eval $(call device_rule,$(BUILD)/obj,$(file:.cu=),sm_90a,nospill)))
$(BUILD)/tests/kernels: $(KERNEL_CU:%.cu=$(BUILD)/obj/%.o)
$(BUILD)/tests/parts:   $(PART_CU:%.cu=$(BUILD)/obj/%.o)
$(GPU_TESTS):
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) $(LDFLAGS) $^ $(CUDA_LIBS) -o $@

# Copies of the kernels with all defects of tests/wrong/sync in them; which of them a run has,
# EMULATE_DEFECT says: one program for all. tests/wrong/sync/run.py has each of them found.
PLANTED    := $(EMU)/planted
PLANTED_CU := $(DEVICE_CU) $(RUNGS:%=optimized/%.cu)
PLANTED_O  := $(EMU_O) $(PLANTED)/planted.o $(PLANTED_CU:%.cu=$(PLANTED)/%.o)
PLANTER    := $(addprefix tests/wrong/sync/,plant.py defects.def needless.def)
EMU_HOST   := $(EMU_SHARE) $(EMU_C:%.c=$(EMU)/c/%.o)

.PHONY: planted
planted: $(PLANTED)/mla $(PLANTED)/again $(PLANTED)/kernels

$(PLANTED)/stamp: $(PLANTED_CU) $(addprefix optimized/parts/,tile_sm80.cuh reduce.cuh) $(KERNEL_CU) $(PLANTER) $(CONFIG)
	$(call say,PLANT,$(@D))
	$(Q)tests/wrong/sync/plant.py $(@D) $(filter-out $(PLANTER) $(CONFIG),$^)
	@touch $@
$(PLANTED_CU:%=$(PLANTED)/%) $(KERNEL_CU:%=$(PLANTED)/%): $(PLANTED)/stamp ;

$(PLANTED)/%.o: $(PLANTED)/%.cu
	$(call say,EMU,$<)
	$(Q)$(call emulated_kernel,-iquote $(PLANTED)/optimized $<,$@)

$(PLANTED)/planted.o: tests/wrong/sync/planted.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) $(INCLUDES) -MMD -MP -c $< -o $@

$(PLANTED)/mla:     $(EMU_HOST) $(call obj,obj,$(MAIN_C)) $(PLANTED_O)
$(PLANTED)/again:   $(EMU_HOST) $(BUILD)/obj/tests/emulated/again.o $(PLANTED_O)
$(PLANTED)/kernels: $(EMU_O) $(PLANTED)/planted.o $(KERNEL_CU:%.cu=$(PLANTED)/%.o)
$(PLANTED)/mla $(PLANTED)/again $(PLANTED)/kernels:
	$(call say,LINK,$@)
	$(Q)$(CXX) -no-pie -fopenmp $(LDFLAGS) $^ $(MODULES_LIBS) -ldl -lm -o $@

registers: $(MERGE_O) $(RUNG_O)
	@harness/tools/registers.sh $(^:.o=.ptxas)

# ---- an author's loop around one rung: make rung R=02_splitk (or 02, or splitk) ------------------
# Its own ladder of one line, its own program, checked on the shipped captures.

CAPTURES := $(wildcard data/captures/*.h5)
LOOP     := $(filter rung watch sass bench emulate,$(GOALS))
number    = $(firstword $(subst _, ,$(1)))
called    = $(filter $(R) 0$(R),$(1) $(call number,$(1)) $(patsubst $(call number,$(1))_%,%,$(1)))
LINE     := $(foreach line,$(LADDER),$(if $(call called,$(call line_name,$(line))),$(line)))
RUNG     := $(call line_name,$(LINE))
ifneq ($(and $(CONFIGURED),$(LOOP)),)
ifneq ($(words $(LINE)) $(words $(R))$(findstring %,$(R)),1 1)
$(error make $(LOOP) R=NAME: "$(R)" is not one of $(RUNGS))
endif
ifneq ($(and $(filter-out emulate,$(LOOP)),$(if $(NVCC),,1)),)
$(error make $(LOOP) needs nvcc, which was not found)
endif
ifneq ($(and $(filter emulate,$(LOOP)),$(SEED),$(SEEDS)),)
$(error make emulate R=$(R): SEED=$(SEED) and SEEDS=$(SEEDS), expected one of the two)
endif
ifneq ($(and $(filter bench,$(LOOP)),$(if $(AGAINST),,1)),)
$(error make bench R=$(R) AGAINST=WHAT: a revision that git knows, or the folder of a bundle)
endif
ifneq ($(and $(filter bench sass,$(LOOP)),$(AGAINST)),)
ifneq ($(shell [ -x $(call sh,$(AGAINST)/bin/mla) ] || harness/tools/revision.sh $(call sh,$(AGAINST)) --known >&2 || echo no),)
$(error make $(LOOP) R=$(R): there is nothing to compare with, see above)
endif
endif
endif
# How the scripts that build an earlier revision are told of this build.
revisions = BUILD=$(BUILD) NVCC=$(call sh,$(NVCC)) CC=$(call sh,$(CC)) CXX=$(call sh,$(CXX))
RUNG_O_ONE := $(BUILD)/obj/optimized/$(RUNG).o
RUNG_DIR   := $(BUILD)/rung/$(RUNG)

# ARCH=native: machine code for this machine's GPU and nothing else compiles in half the time; what is
# for sm_90a stays that. ARCH=sm_NN: for such a GPU.
ifneq ($(and $(ARCH),$(LOOP)),)
ifeq ($(ARCH),native)
GPU_ARCH := $(addprefix sm_,$(shell timeout 20 nvidia-smi --query-gpu=compute_cap --format=csv,noheader \
  2>/dev/null | sed -n '1s/^\([0-9]*\)\.\([0-9]\)$$/\1\2/p'))
else
GPU_ARCH := $(ARCH)
endif
ONE_ARCH := $(or $(filter sm_90a,$(call line_arch,$(LINE))),$(GPU_ARCH),sm_90)
ifneq ($(shell [[ $(call sh,$(ONE_ARCH)) =~ ^sm_[0-9]+[af]?$$ ]] || echo no),)
$(error ARCH=$(ARCH): expected native, or sm_ and a number)
endif
CODE_$(ONE_ARCH) := -gencode=arch=$(ONE_ARCH:sm_%=compute_%)$(comma)code=$(ONE_ARCH)
RUNG_O_ONE := $(BUILD)/native/$(ONE_ARCH)/optimized/$(RUNG).o
RUNG_DIR   := $(RUNG_DIR)-$(ONE_ARCH)
$(eval $(call device_rule,$(BUILD)/native/$(ONE_ARCH),optimized/$(RUNG),$(ONE_ARCH),$(call line_spills,$(LINE))))
endif

rung: $(RUNG_DIR)/mla
	$(if $(and $(filter native,$(ARCH)),$(if $(GPU_ARCH),,1)),@echo 'no GPU here: code for $(ONE_ARCH)')
	@harness/tools/registers.sh $(RUNG_O_ONE:.o=.ptxas)
	$(RUNG_DIR)/mla check -k $(RUNG) $(CAPTURES) || { [ $$? = 77 ] && echo 'built, not run'; }

$(RUNG_DIR)/ladder.def: optimized/ladder.def
	@mkdir -p $(@D)
	@grep '^MLA_KERNEL($(RUNG),' $< >$@

$(RUNG_DIR)/ladder.o: harness/lib/ladder.c $(RUNG_DIR)/ladder.def $(CONFIG)
	$(Q)$(COMPILE) -I$(RUNG_DIR) $(INCLUDES) $(CUDA_FLAGS) -MMD -MP -c $< -o $@

$(RUNG_DIR)/mla: $(RUNG_DIR)/ladder.o $(filter-out %/ladder.o,$(HOST_O)) $(MERGE_O) $(RUNG_O_ONE) $(MAIN_O)
	$(call say,LINK,$@)
	$(Q)$(LINK) -fopenmp $(LDFLAGS) $(RELOCATABLE) $^ $(LIBS) -o $@

# Whenever a file that the rung depends on is saved.
watch:
	@BUILD=$(BUILD) harness/tools/watch.sh $(RUNG_DIR)/mla $(MAKE_COMMAND) --no-print-directory SETUP=no R=$(RUNG) \
		$(if $(ARCH),ARCH=$(ONE_ARCH)) rung

# Machine code, as it stands in the object; AGAINST=REV: and what differs from that revision's.
sass: $(BUILD)/obj/optimized/$(RUNG).o
	@$(revisions) harness/tools/sass.sh $< '$(ONE_ARCH)' $(if $(AGAINST),$(call sh,$(AGAINST)))

# This program against another in turns; BENCH: what is timed, as for mla bench.
BENCH ?= --cells b64_8K_h16_q1,b64_8K_h128_q1,b1_128K_h16_q1
bench: all
	@before=$(call sh,$(AGAINST)); [ -x "$$before/bin/mla" ] || \
		before=$$($(revisions) harness/tools/revision.sh "$$before" all)/build; \
	harness/tools/against.sh "$$before/bin/mla" $(MLA) -k $(RUNG) $(BENCH) || \
		{ [ $$? = 77 ] && echo 'built, not run'; }

# The same sources for debuggers: CONTRIBUTING.md has lines for them.
debug:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/debug DEBUG=1 all

# The rung on this CPU, under the emulator's adversary; SEED=3 or SEEDS=1-20. Of the captures those that
# take seconds there.
EMU_CAPTURES := $(wildcard data/captures/tiny_prefill.h5 data/captures/tiny_shared_fp16.h5)
emulate: $(EMU_MLA)
	$(EMU_MLA) check --emulate=$(call sh,$(or $(SEEDS),$(SEED),1)) -k $(RUNG) --random 10 $(EMU_CAPTURES)

# How each file is compiled, for clangd and its kind (.clangd): taken from the rules above.
compile_commands: | $(CONFIG)
	@$(MAKE) -nB V=1 SETUP=no $(MLA) $(SO) $(SUITES) $(BENCHES) $(PROGRAMS) $(FUZZERS:=.o) $(call obj,asan,$(NONE_C)) \
		$(GPU_TESTS) $(BUILD)/obj/tests/emulated/again.o $(PLANTED)/planted.o | \
		harness/tools/compile_commands.sh "$$PWD" >$(BUILD)/compile_commands.json
	@echo '$(BUILD)/compile_commands.json: '$$(grep -c '"file"' $(BUILD)/compile_commands.json) files

hooks:
	@harness/tools/pre-commit.sh --install

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
# clang's leak check now and then crashes, in itself, on a program whose OpenMP threads are just ending
# ("Tracer caught signal 11"); gcc's looks for leaks.
RUN_TESTS := BUILD=$(BUILD) PYTHON=$(call sh,$(PYTHON)) MLA=$(MLA) \
             $(if $(findstring clang,$(CC)),ASAN_OPTIONS=detect_leaks=0) tests/run.sh

$(BUILD)/tests/test_cli $(BUILD)/tests/test_words: | $(MLA)
$(BUILD)/asan/tests/test_cli $(BUILD)/asan/tests/test_words: | $(ASAN_MLA)
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

# The C tests alone: once as they are, once under the sanitizers.
suites: $(SUITES) $(ASAN_SUITES)
	@$(RUN_TESTS) $(^:%=criterion:%)

test: all emulated planted $(ASAN_EMU)/mla $(ASAN_EMU)/kernels $(ASAN_EMU)/parts $(GPU_TESTS) $(SUITES) $(BENCHES) $(PROGRAMS) $(ASAN_SUITES)
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
	@$(call setup,format)
	clang-format-14 -i $(wildcard $(foreach folder,reference optimized optimized/* harness harness/* tests \
		tests/*, \
		$(addprefix $(folder)/,*.c *.h *.cu *.cuh)))

# ---- the main job, bundle, install ------------------------------------------------------------

demo: $(MLA)
	$(MLA) check $(CAPTURES)

# README's table and the lessons' figures, from data/results/ and what the program says of cells;
# CHECK=1 only says what is stale.
# Where nvcc is, the kernels' registers are written down first.
docs: $(if $(and $(NVCC),$(if $(CHECK),,1)),$(MERGE_O) $(RUNG_O)) | $(MLA)
	harness/tools/map.py $(if $(CHECK),--check)
	MLA_PROGRAM=$(MLA) $(call sh,$(PYTHON)) -B harness/tools/docs.py \
		$(if $(CHECK),--check,$(if $^,--nvcc $(call sh,$(NVCC)) --ptxas $(^:.o=.ptxas)))

# data/results/$(GPU)/ anew, on the machine with the GPU; PYTHON=... is one that has torch.
ifneq ($(filter results,$(GOALS)),)
ifeq ($(shell [[ $(call sh,$(GPU)) =~ ^[[:alnum:]][[:alnum:]._-]*$$ ]] && echo good),)
$(error make results: GPU is "$(GPU)", expected the name of its folder, as h200 is one)
endif
endif
results: $(MLA) $(SO)
	harness/tools/measure.sh $(MLA) $(call sh,data/results/$(GPU)) $(CAPTURES)

bundle: $(MLA) $(SO)
	@NVCC=$(call sh,$(NVCC)) harness/tools/bundle.sh $(BUILD)

# What stands below PREFIX, moved below DESTDIR; a manifest lists it.
ifneq ($(filter install uninstall,$(GOALS)),)
$(call check_path,PREFIX)
$(call check_path,DESTDIR)
$(if $(DESTDIR),$(if $(filter-out /%,$(firstword $(PREFIX))),$(call expect,PREFIX,a path from / on where DESTDIR \
  goes before it)),$(if $(PREFIX),,$(call expect,PREFIX,a path)))
endif
install: $(MLA) $(SO)
	@harness/tools/install.sh install $(call sh,$(DESTDIR)$(PREFIX)) $(BUILD)

uninstall:
	@harness/tools/install.sh uninstall $(call sh,$(DESTDIR)$(PREFIX))

clean:
	@harness/tools/build_folder.sh remove $(BUILD)

help:
	@echo 'make              the program $(BUILD)/bin/mla and the library $(BUILD)/lib/libmla.so'
	@echo 'make demo         checks every implementation on the shipped captures'
	@echo 'make test         everything: lint, unit tests, sanitizers, Python tests, GPU if there is one'
	@echo 'make rung R=NAME  builds one kernel alone and checks it (02_splitk, 02 or splitk)'
	@echo '                  ARCH=native: for the GPU of this machine alone, in half the time'
	@echo 'make emulate R=NAME               on this CPU: finds races and missing waits; SEED=3 or SEEDS=1-20'
	@echo 'make watch R=NAME the same, again and again, whenever a file that it depends on is saved'
	@echo 'make sass R=NAME  its machine code; AGAINST=REV: what differs from that revision'
	@echo 'make bench R=NAME AGAINST=REV      times it and that of a revision or a bundle, in turns'
	@echo 'make debug        $(BUILD)/debug/bin/mla, for gdb, cuda-gdb and compute-sanitizer'
	@echo 'make registers    registers, shared memory and spills of every kernel'
	@echo 'make check-gpu    the GPU suite: every kernel on generated and captured cases'
	@echo 'make suites | asan | lint | bench-host      parts of make test'
	@echo 'make planted      emulated programs with defects to find: tests/wrong/sync/run.py'
	@echo 'make fuzz         mutated capture files, under the sanitizers; COUNT=3000 SEED=1'
	@echo 'make format       clang-format 14 over all sources'
	@echo 'make hooks        git looks at format, rooms and ladder before each commit'
	@echo 'make compile_commands              $(BUILD)/compile_commands.json, for clangd'
	@echo 'make docs         tables of README and lessons from data/results/; CHECK=1: are they stale?'
	@echo 'make results      data/results/$$(GPU)/ anew, on the machine with the GPU; GPU=h200'
	@echo 'make bundle       $(BUILD)/bundle: a folder that runs on machines without these tools'
	@echo 'make install | uninstall           PREFIX='$(call sh,$(PREFIX))' DESTDIR='
	@echo 'make clean'
	@echo 'Variables: BUILD=dir  NVCC=path (empty: no CUDA)  CC CXX CPPFLAGS CFLAGS LDFLAGS CUFLAGS  V=1  SETUP=no'

-include $(patsubst %.o,%.d,$(wildcard $(BUILD)/*/*/*.o $(BUILD)/*/*/*/*.o $(BUILD)/*/*/*/*/*.o))
