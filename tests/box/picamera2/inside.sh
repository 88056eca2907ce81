#!/bin/bash
# Inside the box, each time: see ../picamera2.sh. A camera that hangs must not hang this: hence
# the time limits.
set -euo pipefail

# pip builds in the source's folder, which is read-only here.
mkdir /tmp/source
cp -r /opt/source/{edge_daemon,models,tests,pyproject.toml,README.md,LICENSE} /tmp/source
/opt/venv/bin/pip install -q --no-deps --no-build-isolation /tmp/source

mkdir -p /usr/share/libcamera/pipeline/virtual
cp /opt/box/virtual.yaml /usr/share/libcamera/pipeline/virtual/
export LIBCAMERA_PIPELINES_MATCH_LIST=virtual LIBCAMERA_LOG_LEVELS='*:FATAL'
export LD_PRELOAD=/usr/local/lib/fakedmaheap.so

echo '--- the camera'
cam --list

echo '--- the fake picamera2 against the real one'
cd /tmp/source
timeout 60 /opt/venv/bin/python -m pytest -q -p no:cacheprovider tests/capture/test_picamera.py

echo '--- the source'
cd /
timeout 120 /opt/venv/bin/python -X faulthandler /opt/box/source.py

echo '--- the daemon, for 6 s'
options=(--source picamera --sink jsonl --set capture.fps=10)
if [ -e /opt/yunet.onnx ]; then options+=(--detector yunet --detector-model /opt/yunet.onnx); fi
# After SIGTERM the daemon exits with 0.
timeout --preserve-status -k 4 6 /opt/venv/bin/edge-daemon run "${options[@]}" > /tmp/lines.jsonl
/opt/venv/bin/python /opt/box/summary.py /tmp/lines.jsonl
