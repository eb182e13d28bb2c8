# qsam2-deploy on the CPU, without PyTorch: ONNX Runtime with our kernels, and PyAV. Its steps were
# run one by one; Docker itself was not at hand.
#
#   docker build -t qsam2 .
#   docker run --rm -v "$PWD:/work" qsam2 segment cat.mp4 --model model.onnx --click 320,240 -o out.mp4
FROM python:3.11-slim AS build
RUN pip install --no-cache-dir build
COPY . /source
RUN python -m build --wheel --outdir /dist /source

FROM python:3.11-slim
COPY --from=build /dist /dist
# gcc compiles the kernels, for every instruction set, and is not needed afterwards.
ENV QSAM2_KERNEL_CACHE=/opt/qsam2/kernels
RUN pip install --no-cache-dir "$(echo /dist/*.whl)[ort,video]" \
 && apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && qsam2-build-kernels \
 && apt-get purge --yes --auto-remove gcc libc6-dev && rm -rf /var/lib/apt/lists/* /dist \
 && useradd --create-home qsam2
USER qsam2
WORKDIR /work
ENTRYPOINT ["qsam2-deploy"]
