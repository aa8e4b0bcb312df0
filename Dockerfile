# syntax=docker/dockerfile:1
# The Python that the tests run on. Another one: --build-arg PYTHON=3.13
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /build

# Everything is installed by its hash: the installer, what Taskyard needs, what builds its wheel.
COPY tools/bootstrap.lock tools/
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /opt/tools && \
    /opt/tools/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tools/bootstrap.lock

# What changes seldom comes first, so that a change of the code builds only the wheel anew.
COPY requirements-runtime.lock ./
RUN --mount=type=cache,target=/root/.cache \
    /opt/tools/bin/uv venv --quiet --python python3 /opt/taskyard && \
    /opt/tools/bin/uv pip install --quiet --python /opt/taskyard --require-hashes --only-binary :all: \
        -r requirements-runtime.lock

# Only `taskyard dev` shows GraphiQL: its browser files are left out, and Node is not needed.
COPY pyproject.toml hatch_build.py LICENSE README.md requirements.lock ./
COPY graphql/ graphql/
COPY server/ server/
COPY workers/ workers/
RUN --mount=type=cache,target=/root/.cache \
    TASKYARD_SKIP_ASSETS=1 /opt/tools/bin/uv build --quiet --python python3 --wheel --out-dir dist \
        --require-hashes --build-constraints requirements.lock && \
    /opt/tools/bin/uv pip install --quiet --python /opt/taskyard --no-deps dist/*.whl


FROM python:${PYTHON}-slim
ENV PATH=/opt/taskyard/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 taskyard && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /srv --shell /usr/sbin/nologin taskyard
COPY --from=build /opt/taskyard /opt/taskyard

# Not writable: without DATABASE_URL a container refuses to start, instead of keeping its tasks where they die with it.
WORKDIR /srv
USER 10001:10001
EXPOSE 4000

# Never by a proxy that the environment names. A worker listens on no port: switch the check off for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ.get('TASKYARD_PORT', 4000)}/api/ai/tasks/health\", timeout=4)"]
ENTRYPOINT ["taskyard"]
CMD ["serve", "--host", "0.0.0.0"]
