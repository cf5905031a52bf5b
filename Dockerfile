# syntax is the builder's own: no front end is fetched from a registry.
#
# The images of a team's stack (docker-compose.yaml):
#   airflow   every part of Airflow, and the workers that need no trainer
#   training  the same, and the trainer's environment: for the training worker alone
#   mlflow    the MLflow server
#
# Airflow's own image gives the system, Python 3.11 and the user; every package comes from our locks,
# by hash, into environments of our own. Compilers stay in the stages that are thrown away.

ARG BASE_IMAGE=apache/airflow:3.3.2-python3.11

# --- the system: the base, and a company's certificates if there are any -----------------------------
FROM ${BASE_IMAGE} AS system
USER root
# PEM text of one or more certificates, for a network that looks into TLS; empty: none.
ARG EXTRA_CA_CERTS=""
RUN if [ -n "$EXTRA_CA_CERTS" ]; then \
        printf '%s\n' "$EXTRA_CA_CERTS" > /usr/local/share/ca-certificates/extra.crt \
        && update-ca-certificates; \
    fi
# LightGBM takes the system's OpenMP, which not every base has.
RUN ldconfig -p | grep -q libgomp.so.1 || { apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*; }
# One bundle for uv, pip, Python, and the S3 client.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \
    AWS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt
# The one folder that outlives a container: logs, and what the worker remembers of the registry.
RUN install -d -o 50000 -g 0 -m 0770 /var/lib/retraining

# --- environments ------------------------------------------------------------------------------------
FROM system AS builder
WORKDIR /build
COPY requirements-uv.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /build/uv && /build/uv/bin/pip install -q --require-hashes -r requirements-uv.lock
ENV PATH=/build/uv/bin:$PATH \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_NO_PROGRESS=1

FROM builder AS airflow-environment
COPY requirements.lock requirements-cluster.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv venv -q --python 3.11 /opt/venv \
    && uv pip install -q --python /opt/venv/bin/python --no-deps --require-hashes \
        -r requirements.lock -r requirements-cluster.lock

FROM builder AS trainer-environment
COPY requirements-trainer.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv venv -q --python 3.11 /opt/trainer \
    && uv pip install -q --python /opt/trainer/bin/python --no-deps --require-hashes \
        -r requirements-trainer.lock

FROM builder AS mlflow-environment
COPY requirements-mlflow.lock requirements-cluster.lock ./
# The server's own lock, and the driver of Postgres from the lock that has it.
RUN --mount=type=cache,target=/root/.cache/uv \
    awk '/^[^ ]/ {driver = /^psycopg2-binary==/} driver' requirements-cluster.lock > driver.lock \
    && uv venv -q --python 3.11 /opt/mlflow \
    && uv pip install -q --python /opt/mlflow/bin/python --no-deps --require-hashes \
        -r requirements-mlflow.lock -r driver.lock

# --- images ------------------------------------------------------------------------------------------
FROM system AS mlflow
COPY --from=mlflow-environment /opt/mlflow /opt/mlflow
ENV PATH=/opt/mlflow/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 50000:0
ENTRYPOINT ["/usr/bin/dumb-init", "--"]

FROM system AS airflow-packages
COPY --from=airflow-environment /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    AIRFLOW_HOME=/opt/airflow \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /opt/retraining
ENTRYPOINT ["/usr/bin/dumb-init", "--"]

# Our sources come last, so that a change of them rebuilds seconds and not environments. They lie as
# in the repository: records name the code by its hash, with the locks beside include/.
FROM airflow-packages AS airflow
COPY pyproject.toml README.md requirements.lock requirements-trainer.lock ./
COPY include ./include
COPY dags ./dags
COPY plugins ./plugins
RUN --mount=type=bind,from=builder,source=/build/uv,target=/build/uv \
    /build/uv/bin/uv pip install -q --python /opt/venv/bin/python --no-deps --no-build-isolation \
        --no-cache -e . \
    && /opt/venv/bin/python -m compileall -q include
USER 50000:0

# Not FROM airflow: then 2 GB would be copied again at each change of our sources.
FROM airflow-packages AS trainer-packages
COPY --from=trainer-environment /opt/trainer /opt/trainer
ENV RETRAINING_TRAINER_PYTHON=/opt/trainer/bin/python

FROM trainer-packages AS training
COPY --from=airflow /opt/retraining /opt/retraining
RUN --mount=type=bind,from=builder,source=/build/uv,target=/build/uv \
    /build/uv/bin/uv pip install -q --python /opt/venv/bin/python --no-deps --no-build-isolation \
        --no-cache -e .
USER 50000:0
