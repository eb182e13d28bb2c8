# qsam2-deploy on a Jetson, with the TensorRT of JetPack. Not run: nobody here has had a Jetson.
#
# BASE is NVIDIA's image l4t-jetpack of the board's JetPack, with Python, CUDA and TensorRT:
#
#   docker build -t qsam2 -f docker/jetson.Dockerfile --build-arg BASE=<l4t-jetpack image>:r36.4.0 .
#   docker run --rm --runtime nvidia -v "$PWD:/work" qsam2 build-engine model.onnx --int8
#   docker run --rm --runtime nvidia --device /dev/video0 -v "$PWD:/work" qsam2 \
#       segment 0 --model model.engine --click 320,240 --max-frames 300 -o out.mp4
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip python3-venv gcc \
 && rm -rf /var/lib/apt/lists/*
COPY . /source
# TensorRT's Python package comes with JetPack, outside of pip: the environment sees the system's.
# cuda-python must be of JetPack's CUDA, which is 12.6 in JetPack 6.
ENV QSAM2_KERNEL_CACHE=/opt/qsam2/kernels PATH=/opt/qsam2/env/bin:$PATH
RUN python3 -m venv --system-site-packages /opt/qsam2/env \
 && pip install --no-cache-dir "/source[ort,video]" "cuda-python>=12.6,<13" \
 && qsam2-build-kernels && rm -rf /source
WORKDIR /work
ENTRYPOINT ["qsam2-deploy"]
