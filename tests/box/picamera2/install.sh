#!/bin/bash
# Inside the box, once: libcamera with its virtual camera, picamera2, and the daemon's requirements.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

# trixie's own libcamera 0.4 hangs with the virtual camera.
echo 'deb http://deb.debian.org/debian trixie-backports main' > /etc/apt/sources.list.d/backports.list
apt-get update -qq -o 'Acquire::Check-Date=false'
apt-get install -y -qq --no-install-recommends -t trixie-backports \
    libcamera-tools libcamera-ipa python3-libcamera > /dev/null

cc -shared -fPIC -O2 -o /usr/local/lib/fakedmaheap.so /opt/box/fakedmaheap.c -ldl

# The same as on a Pi: libcamera comes from the system, so the environment sees its packages.
python3 -m venv --system-site-packages /opt/venv
/opt/venv/bin/pip install -q picamera2 hatchling pytest pytest-timeout hypothesis
/opt/venv/bin/python - > /opt/requirements.txt <<'P'
import tomllib

with open("/opt/pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["project"]["dependencies"]))
P
/opt/venv/bin/pip install -q -r /opt/requirements.txt
packages=$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp /opt/box/{pykms,virtual_camera}.py "$packages/"
echo '__import__("virtual_camera").fit(Picamera2)' >> "$packages/picamera2/__init__.py"
