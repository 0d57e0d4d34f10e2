# No CUDA base image: the pinned torch wheel brings CUDA, cuDNN and NCCL. A GPU host needs only its driver (for CUDA 13:
# 580 or newer) and the NVIDIA container toolkit; without them the image runs on the CPU.
#
# Build   docker build -t rexnet-lightning .
# Try     docker run --rm --read-only --tmpfs /tmp --shm-size 1g rexnet-lightning train.py --config quickstart.yaml
# Run     see compose.yaml, which also sets the mounts, the user and enough shared memory
# Test    tests/container.sh builds it without Docker and runs it
FROM python:3.11.15-slim-bookworm

# A compiler, since trainer.compile=true builds its kernels at run time. Debian drops old versions from its mirrors, so
# a pinned one would soon no longer build; the base image's tag fixes the release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

# Mode 1777, because compose.yaml runs as the caller, who may have another UID.
RUN groupadd --gid 1000 rexnet \
    && useradd --uid 1000 --gid 1000 --create-home rexnet \
    && mkdir -p /home/rexnet/.cache /workspace/data /workspace/runs \
    && chmod 1777 /home/rexnet /home/rexnet/.cache /workspace/data /workspace/runs

# NO_ALBUMENTATIONS_UPDATE  importing albumentations would ask the network for updates
# NVIDIA_*                  for hosts whose default runtime is `nvidia`; `--gpus` and compose choose devices themselves
# PATH                      the virtual environment lies outside of HOME and /workspace, so that no mount hides it
# TORCHINDUCTOR_CACHE_DIR   compiled kernels cannot be loaded from /tmp where that is mounted without execution
ENV NO_ALBUMENTATIONS_UPDATE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all \
    PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    TORCHINDUCTOR_CACHE_DIR=/home/rexnet/.cache/torchinductor

WORKDIR /workspace

# Before the code, so that a change of code does not install the packages again. What no run loads leaves in the same
# layer (1.1 GB): debugging symbols, libraries of profilers, of AMD's GPUs and of GPU-side NVSHMEM, a solver for several
# GPUs that torch does not link, the packages' own tests, and the tools that check our code. pytest stays.
COPY requirements.txt ./
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir --progress-bar off --require-hashes -r requirements.txt \
    && pip uninstall --yes mypy ruff \
    && cd /opt/venv/lib/python3*/site-packages \
    && strip --strip-unneeded triton/_C/libtriton.so \
    && rm -rf triton/backends/nvidia/lib/cupti* triton/backends/amd/lib/libtriton_amd_codegen.so \
        nvidia/nvshmem/lib/libnvshmem_device* nvidia/cu*/lib/libcusolverMg* \
    && find . -type d \( -name test -o -name tests \) -prune -exec rm -r {} +

COPY pyproject.toml README.md LICENSE train.py evaluate.py ./
COPY configs configs
COPY src src
# Editable, so that the image holds code and recipes once. The code stays root's, so that no run changes it; chmod,
# because a checkout made under umask 077 is readable for nobody else.
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e . \
    && chmod -R a+rX .

# HOME, because Docker would set it to / for a UID that the image does not know. The user by number, because Kubernetes
# can tell only then that it is not root.
ENV HOME=/home/rexnet
USER 1000:1000
# All that a run writes, apart from /tmp. Docker makes volumes of them even where the rest is read-only.
VOLUME ["/home/rexnet", "/workspace/data", "/workspace/runs"]
ENTRYPOINT ["python"]
CMD ["train.py", "--help"]
