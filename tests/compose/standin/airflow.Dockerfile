# Stands in for apache/airflow:3.3.2-python3.11: Debian 12 as the official image, its Python, its
# dumb-init and its user. Airflow itself is not in it: our Dockerfile brings its own by lock.
FROM debian:bookworm-slim
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3 python3-venv dumb-init libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 50000 --gid 0 --create-home airflow \
    && install -d -o airflow -g 0 -m 0775 /opt/airflow
WORKDIR /opt/airflow
USER airflow
