# There is no CUDA base image, because the pinned torch wheel contains CUDA, cuDNN and NCCL. A GPU host only needs its
# driver (580 or newer for CUDA 13) and the NVIDIA container toolkit; without them the image runs on the CPU.
#
# Build   docker build -t rexnet-lightning .
# Try     docker run --rm --read-only --tmpfs /tmp rexnet-lightning train.py --config quickstart.yaml
# Run     see compose.yaml, which also sets the mounts, the user and enough shared memory
# Test    tests/container.sh, which needs no Docker
FROM python:3.11.15-slim-bookworm

# trainer.compile=true builds its kernels at run time with g++. Its version is not pinned, because Debian removes old
# versions from its mirrors; the tag of the base image fixes the release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

# Mode 1777, because compose.yaml runs as the caller, who may have another UID.
RUN groupadd --gid 1000 rexnet \
    && useradd --uid 1000 --gid 1000 --create-home rexnet \
    && mkdir -p /home/rexnet/.cache /workspace/data /workspace/runs \
    && chmod 1777 /home/rexnet /home/rexnet/.cache /workspace/data /workspace/runs

# NO_ALBUMENTATIONS_UPDATE  keeps albumentations from checking for updates on import
# NVIDIA_*                  for hosts whose default runtime is `nvidia`; `--gpus` and compose choose devices themselves
# PATH                      the virtual environment is outside of HOME and /workspace, so that no mount hides it
# TORCHINDUCTOR_CACHE_DIR   compiled kernels cannot be loaded from /tmp if it is mounted with noexec, Docker's default
ENV NO_ALBUMENTATIONS_UPDATE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all \
    PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    TORCHINDUCTOR_CACHE_DIR=/home/rexnet/.cache/torchinductor

WORKDIR /workspace

# Installed before the code is copied, so that a change of code does not reinstall the packages. The same layer removes
# 1.1 GB that no run loads: debug symbols, libraries for profilers, AMD GPUs and NVSHMEM device code, a multi-GPU solver
# that torch does not link, the packages' own tests, mypy, ruff and uv.
COPY requirements.txt ./
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir --progress-bar off --require-hashes -r requirements.txt \
    && pip uninstall --yes mypy ruff uv \
    && cd /opt/venv/lib/python3*/site-packages \
    && strip --strip-unneeded triton/_C/libtriton.so \
    && rm -rf triton/backends/nvidia/lib/cupti* triton/backends/amd/lib/libtriton_amd_codegen.so \
        nvidia/nvshmem/lib/libnvshmem_device* nvidia/cu*/lib/libcusolverMg* \
    && find . -type d \( -name test -o -name tests \) -prune -exec rm -r {} +

COPY pyproject.toml README.md LICENSE train.py evaluate.py ./
COPY configs configs
COPY src src
# Editable, so that the image contains code and recipes once. Root owns the code, so that no run changes it; chmod makes
# a checkout created under umask 077 readable.
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e . \
    && chmod -R a+rX .

# Docker would set HOME to / for a UID that the image does not know. The user is a number, because otherwise Kubernetes
# cannot verify that it is not root.
ENV HOME=/home/rexnet
USER 1000:1000
# Everything that a run writes, except /tmp. Docker keeps volumes writable under `--read-only`.
VOLUME ["/home/rexnet", "/workspace/data", "/workspace/runs"]
ENTRYPOINT ["python"]
CMD ["train.py", "--help"]
