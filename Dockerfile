# mae-et in a container: Python and the package, nothing else. The images to train on are mounted.
#
#   docker build -t mae-et .                                       for a CPU
#   docker build -t mae-et:cuda --build-arg TORCH=cu128 .          for NVIDIA GPUs
#   docker run --rm -v /data/photos:/data:ro -v "$PWD/runs:/work/runs" --shm-size 8g \
#       mae-et pretrain /data --hours 1
#
# Runs are written by user 1000, who must be allowed to write to the mounted folder (or --user).
# Loader workers hand over batches in shared memory, of which Docker gives 64 MiB if not told.
# With GPUs: docker run --gpus all … mae-et:cuda …, or compose.yaml.
# PyTorch's wheels for CUDA bring its libraries, so the base is the same small image for both; the
# driver is the host's (NVIDIA Container Toolkit). BASE replaces it, by an image of CUDA for example,
# as long as it has Python 3.11 or newer as `python`.
#
# Where this was written there is no builder: it was linted (hadolint), and not built. The workflow
# container.yml builds the image for a CPU; nothing builds the one for CUDA.
#
# Versions are not pinned: pyproject.toml says which are too old.
# hadolint global ignore=DL3013

ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG TORCH=cpu
ARG EXTRAS=report,fast,tiff,trackers
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/mae-et
ENV PATH=/opt/mae-et/bin:$PATH
# Before the sources, so that a change of these does not install gigabytes anew.
RUN pip install "torch>=2.6" "torchvision>=0.21" --index-url "https://download.pytorch.org/whl/${TORCH}"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY mae_et mae_et
COPY finetune finetune
RUN pip install ".[${EXTRAS}]"

FROM ${BASE}
RUN useradd --create-home --uid 1000 mae \
    && install -d -o mae -g mae /work /work/runs /work/cache
COPY --from=build /opt/mae-et /opt/mae-et
ENV PATH=/opt/mae-et/bin:$PATH \
    HF_HOME=/work/cache \
    PYTHONUNBUFFERED=1
USER 1000
WORKDIR /work
# SIGTERM of `docker stop` saves a checkpoint: give it time, docker stop --time 120.
ENTRYPOINT ["mae-et"]
CMD ["--help"]
