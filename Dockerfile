# Two images without root and network (docs/offline.md): by default one that predicts with the
# published model; with --target cluster, one that runs the pipeline in a mounted repository.
FROM python:3.11-slim-bookworm AS build
COPY requirements.txt .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir -r requirements.txt

FROM build AS cluster
COPY requirements-cluster.txt .
# The mounted repository may belong to another user.
RUN apt-get update && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* && git config --system safe.directory '*' \
    && /venv/bin/pip install --no-cache-dir -r requirements.txt -r requirements-cluster.txt
# Python takes USERNAME if the image does not know the user who runs it; DVC asks for a name.
ENV PATH=/venv/bin:$PATH HOME=/tmp USERNAME=glomeruli
USER 1000:1000
WORKDIR /work

FROM python:3.11-slim-bookworm
COPY --from=build /venv /venv
COPY pins /app/pins
COPY published /app/published
COPY stages /app/stages
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
RUN mkdir /out && chown 1000:1000 /out
USER 1000:1000
WORKDIR /out
ENTRYPOINT ["python", "-m", "stages.predict", "--model", "/app/published/aidpath"]
