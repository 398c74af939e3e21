# The image of one algorithm, trained and served the way SageMaker does it:
#
#   docker run -v $PWD/ml:/opt/ml IMAGE train
#   docker run -v $PWD/ml:/opt/ml -p 8080:8080 IMAGE serve
#
# Without an ALGORITHM it is the image of all of them: CLARY_ALGORITHM says at run time which one it trains, and what
# it serves a model says itself. It uses nothing that needs BuildKit, so any builder can build it. `make image` fills
# in the arguments.

# Any Debian with python3 (3.10 or newer) and its venv module. Both stages need the same one: a virtual
# environment points at the interpreter it was made with.
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
# Where the packages come from; ignored when build/wheels holds them. Proxy arguments need no declaration.
ARG PIP_INDEX_URL
# An extra of the package that the algorithm needs: xgboost, or nothing.
ARG EXTRA
# The pattern may match nothing, so the folder is optional; COPY needs one source that is always there.
COPY pyproject.toml build/wheel[s] /wheels/
COPY . /src
# With wheels at hand pip must not reach for the network, neither here nor where it builds clary itself. clary's own
# wheel, where it is among them, has the compiled kernels; else they are compiled here, if a compiler can be fetched.
# Three things are taken out again. setuptools comes with venv up to Python 3.11 and serves no purpose once clary is
# installed. scipy comes with xgboost, whose Python package needs it; clary calls the library inside that package and
# imports nothing of it, so more than half of that image would be there for nobody. And numpy brings its own tests.
RUN if ls /wheels/*.whl >/dev/null 2>&1; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels; fi \
 && export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
 && python3 -m venv /opt/clary \
 && own=$(ls /wheels/clary-*.whl 2>/dev/null || echo /src) \
 && if [ "$own" = /src ] && ! command -v cc >/dev/null; then \
      { apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev; } || true; \
    fi \
 && /opt/clary/bin/pip install "$own${EXTRA:+[$EXTRA]}" \
 && /opt/clary/bin/python -c 'from clary.native import STATE; print("compiled kernels:", STATE)' \
 && /opt/clary/bin/pip uninstall --yes --quiet setuptools ${EXTRA:+scipy} \
 && find /opt/clary/lib/python3*/site-packages/numpy -depth -type d -name tests -exec rm -r {} +

FROM ${BASE_IMAGE}
COPY --from=build /opt/clary /opt/clary

ARG ALGORITHM=kmeans
# SageMaker sends nothing but `train` or `serve`, so the image itself knows its algorithm. A container has its
# own network, hence every address of it. Logs are read line by line, hence no buffer; the file system may be
# read-only, hence no bytecode. The environment comes first in PATH: `python3` and `pip` of a user's script are
# the ones that see clary.
ENV CLARY_ALGORITHM=${ALGORITHM} \
    CLARY_BIND=0.0.0.0 \
    PATH=/opt/clary/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

EXPOSE 8080

# A container that trains is always well; one that serves, when its /ping answers. A large model takes its time.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 \
    CMD ["/opt/clary/bin/python", "-m", "clary.containers.health"]

# No USER: SageMaker mounts /opt/ml owned by root and expects root inside. Any other user works as well where
# its mounts let it write (`docker run --user`).

# The exec form makes Python process 1, which gets the SIGTERM of a stop. The default command is for callers
# that send no word at all, such as local mode of the SageMaker SDK v3.
ENTRYPOINT ["/opt/clary/bin/python", "-m", "clary.containers.entrypoint"]
CMD ["train"]

# Last, because the date is never the same twice.
ARG BASE_IMAGE
ARG VERSION
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="clary ${ALGORITHM:-all}" \
      org.opencontainers.image.description="Open, local equivalent of Amazon SageMaker's built-in ${ALGORITHM:-algorithms}." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true" \
      com.amazonaws.sagemaker.capabilities.multi-models="true"
