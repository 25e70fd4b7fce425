"""Rasterise posed bodies on pyrender's off-screen OpenGL (EGL): one pass, float targets, buffers that stay.

pyrender opens the context; the drawing is one small program of our own, because pyrender builds a scene and uploads every buffer
anew for each picture, and reads back 8-bit multisampled colour. Here a mesh's triangles stay on the device, one pass at `SAMPLES`
times the size writes albedo, normals and depth together, and a second, of the picture's size, reduces it: the middle sample of a
pixel is exactly its centre, so depth and normals are point samples in float32, while albedo and cover are means. Light is added
afterwards in NumPy, so that every image of the study comes from the same few lines and does not depend on a shader.
"""

import os

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")  # software OpenGL: the worker processes are the parallelism

import ctypes
from collections import OrderedDict
from functools import lru_cache

import numpy as np
import pyrender
from OpenGL import GL

from posedive_lib.body.raster import NEAR, SAMPLES, Mesh, Raster

FAR = 100.0  # metres: what is farther from the camera is not drawn
KEPT = 64  # meshes whose triangles stay on the device

DRAW_VERTEX = """#version 410
layout(location = 0) in vec3 point;   // camera frame, OpenCV axes, metres
layout(location = 1) in vec3 normal;  // OpenGL axes
layout(location = 2) in vec3 albedo;
uniform vec4 lens;  // 2 f / width, 2 f / height, near, far
out vec4 direction_depth;
out vec3 colour;
void main() {
    float clip = (point.z * (lens.w + lens.z) - 2.0 * lens.w * lens.z) / (lens.w - lens.z);
    gl_Position = vec4(lens.xy * point.xy, clip, point.z);  // y stays down: OpenGL's lowest row is the picture's first
    direction_depth = vec4(normal, point.z);
    colour = albedo;
}"""
DRAW_FRAGMENT = """#version 410
in vec4 direction_depth;
in vec3 colour;
layout(location = 0) out vec4 albedo_cover;
layout(location = 1) out vec4 normal_depth;
void main() {
    albedo_cover = vec4(colour, 1.0);
    normal_depth = vec4(normalize(direction_depth.xyz), direction_depth.w);
}"""
REDUCE_VERTEX = """#version 410
void main() { gl_Position = vec4(vec2((gl_VertexID << 1) & 2, gl_VertexID & 2) * 2.0 - 1.0, 0.0, 1.0); }"""
REDUCE_FRAGMENT = """#version 410
uniform sampler2D albedo_cover;
uniform sampler2D normal_depth;
layout(location = 0) out vec4 albedo_out;
layout(location = 1) out vec4 normal_out;
const int S = SAMPLES;
void main() {
    ivec2 corner = ivec2(gl_FragCoord.xy) * S;
    vec4 total = vec4(0.0);
    vec3 direction = vec3(0.0);
    for (int y = 0; y < S; y++)
        for (int x = 0; x < S; x++) {
            total += texelFetch(albedo_cover, corner + ivec2(x, y), 0);
            direction += texelFetch(normal_depth, corner + ivec2(x, y), 0).xyz;
        }
    vec4 centre = texelFetch(normal_depth, corner + S / 2, 0);
    float length_ = length(direction);
    albedo_out = vec4(total.rgb / max(total.a, 1.0), total.a / float(S * S));
    // A rim pixel whose centre misses the body still has a colour, and so a direction.
    normal_out = vec4(centre.w > 0.0 ? centre.xyz : direction / max(length_, 1e-6), centre.w);
}""".replace("SAMPLES", str(SAMPLES))


class _Device:
    """The process's OpenGL context and programs, opened once. pyrender ends the whole display when one of its contexts is deleted,
    so all rasterisers share this one and it lives as long as the process."""

    def __init__(self):
        self.host = pyrender.OffscreenRenderer(1, 1)
        self.current()
        self.draw = _program(DRAW_VERTEX, DRAW_FRAGMENT)
        self.reduce = _program(REDUCE_VERTEX, REDUCE_FRAGMENT)
        self.lens = GL.glGetUniformLocation(self.draw, "lens")
        GL.glUseProgram(self.reduce)
        for unit, name in enumerate(("albedo_cover", "normal_depth")):
            GL.glUniform1i(GL.glGetUniformLocation(self.reduce, name), unit)
        self.empty = GL.glGenVertexArrays(1)  # the reducing triangle has no attributes, but a core profile wants an array bound

    def current(self) -> None:
        self.host._platform.make_current()  # other pyrender users of the process may have taken it


@lru_cache(maxsize=1)
def _device(pid: int) -> _Device:
    return _Device()


class _Triangles:
    """A mesh on the device: indices that stay, and vertex buffers that are filled anew for each picture."""

    def __init__(self, faces: np.ndarray):
        self.mesh = Mesh(faces)
        self.array = GL.glGenVertexArrays(1)
        *self.vertex, self.index = GL.glGenBuffers(4)
        GL.glBindVertexArray(self.array)
        for location, buffer in enumerate(self.vertex):
            GL.glBindBuffer(GL.GL_ARRAY_BUFFER, buffer)
            GL.glEnableVertexAttribArray(location)
            GL.glVertexAttribPointer(location, 3, GL.GL_FLOAT, GL.GL_FALSE, 0, ctypes.c_void_p(0))
        indices = np.ascontiguousarray(faces, np.uint32)
        GL.glBindBuffer(GL.GL_ELEMENT_ARRAY_BUFFER, self.index)
        GL.glBufferData(GL.GL_ELEMENT_ARRAY_BUFFER, indices.nbytes, indices, GL.GL_STATIC_DRAW)
        self.count = indices.size

    def draw(self, *values: np.ndarray) -> None:
        """Points, normals and albedo (V, 3) float32 each."""
        GL.glBindVertexArray(self.array)
        for buffer, some in zip(self.vertex, values, strict=True):
            GL.glBindBuffer(GL.GL_ARRAY_BUFFER, buffer)
            GL.glBufferData(GL.GL_ARRAY_BUFFER, some.nbytes, some, GL.GL_STREAM_DRAW)
        GL.glDrawElements(GL.GL_TRIANGLES, self.count, GL.GL_UNSIGNED_INT, ctypes.c_void_p(0))

    def delete(self) -> None:
        GL.glDeleteBuffers(4, [*self.vertex, self.index])
        GL.glDeleteVertexArrays(1, [self.array])


class Rasteriser:
    """Draws meshes at one size; `focal` in pixels, principal point at the centre. Keeps its targets and the last meshes' triangles."""

    def __init__(self, height: int, width: int, focal: float):
        self.height, self.width, self.focal = height, width, focal
        self.device = _device(os.getpid())
        self.device.current()
        self.fine, self.fine_textures = _target(height * SAMPLES, width * SAMPLES, depth=True)
        self.target, self.textures = _target(height, width, depth=False)
        self.triangles: OrderedDict[int, tuple[np.ndarray, _Triangles]] = OrderedDict()

    def _on_device(self, faces: np.ndarray) -> _Triangles:
        key = id(faces)  # the array itself is kept beside, so its id is not given to another
        if key not in self.triangles:
            if len(self.triangles) >= KEPT:
                self.triangles.popitem(last=False)[1][1].delete()
            self.triangles[key] = faces, _Triangles(faces)
        self.triangles.move_to_end(key)
        return self.triangles[key][1]

    def __call__(self, vertices: np.ndarray, faces: np.ndarray, albedo: np.ndarray) -> Raster:
        """Rasterise camera-frame vertices (V, 3) in metres (OpenCV axes) with per-vertex albedo (V, 3) in [0, 1]."""
        self.device.current()
        triangles = self._on_device(faces)
        points = np.ascontiguousarray(vertices, np.float32)
        normals = triangles.mesh.normals(points)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self.fine)
        GL.glViewport(0, 0, self.width * SAMPLES, self.height * SAMPLES)
        GL.glDisable(GL.GL_BLEND), GL.glEnable(GL.GL_DEPTH_TEST)
        GL.glEnable(GL.GL_CULL_FACE), GL.glFrontFace(GL.GL_CW)  # counter-clockwise from outside, mirrored by y down
        GL.glDepthFunc(GL.GL_LESS), GL.glDepthMask(GL.GL_TRUE)
        GL.glClearColor(0, 0, 0, 0), GL.glClearDepth(1)
        GL.glClear(GL.GL_COLOR_BUFFER_BIT | GL.GL_DEPTH_BUFFER_BIT)
        GL.glUseProgram(self.device.draw)
        GL.glUniform4f(self.device.lens, 2 * self.focal / self.width, 2 * self.focal / self.height, NEAR, FAR)
        triangles.draw(points, normals, np.ascontiguousarray(albedo, np.float32))
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self.target)
        GL.glViewport(0, 0, self.width, self.height)
        GL.glDisable(GL.GL_DEPTH_TEST), GL.glDisable(GL.GL_CULL_FACE)
        GL.glUseProgram(self.device.reduce)
        for unit, texture in enumerate(self.fine_textures):
            GL.glActiveTexture(GL.GL_TEXTURE0 + unit)
            GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
        GL.glBindVertexArray(self.device.empty)
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)
        first, second = (self._read(GL.GL_COLOR_ATTACHMENT0 + number) for number in (0, 1))
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, 0)
        return Raster(first[..., :3], first[..., 3], second[..., :3], second[..., 3])

    def _read(self, attachment: int) -> np.ndarray:
        pixels = np.empty((self.height, self.width, 4), np.float32)
        GL.glReadBuffer(attachment)
        GL.glReadPixels(0, 0, self.width, self.height, GL.GL_RGBA, GL.GL_FLOAT, pixels)
        return pixels

    def close(self) -> None:
        """Give the device memory back."""
        self.device.current()
        for _, triangles in self.triangles.values():
            triangles.delete()
        self.triangles.clear()
        GL.glDeleteFramebuffers(2, [self.fine, self.target])
        GL.glDeleteTextures(4, [*self.fine_textures, *self.textures])


def _program(vertex: str, fragment: str) -> int:
    program = GL.glCreateProgram()
    for kind, text in ((GL.GL_VERTEX_SHADER, vertex), (GL.GL_FRAGMENT_SHADER, fragment)):
        shader = GL.glCreateShader(kind)
        GL.glShaderSource(shader, text)
        GL.glCompileShader(shader)
        if not GL.glGetShaderiv(shader, GL.GL_COMPILE_STATUS):
            raise RuntimeError(GL.glGetShaderInfoLog(shader))
        GL.glAttachShader(program, shader)
    GL.glLinkProgram(program)
    if not GL.glGetProgramiv(program, GL.GL_LINK_STATUS):
        raise RuntimeError(GL.glGetProgramInfoLog(program))
    return program


def _target(height: int, width: int, depth: bool) -> tuple[int, list[int]]:
    """A frame buffer with two RGBA float32 textures, and a depth buffer if asked."""
    frame, textures = GL.glGenFramebuffers(1), [int(name) for name in GL.glGenTextures(2)]
    GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, frame)
    for number, texture in enumerate(textures):
        GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
        GL.glTexImage2D(GL.GL_TEXTURE_2D, 0, GL.GL_RGBA32F, width, height, 0, GL.GL_RGBA, GL.GL_FLOAT, None)
        for name in (GL.GL_TEXTURE_MIN_FILTER, GL.GL_TEXTURE_MAG_FILTER):
            GL.glTexParameteri(GL.GL_TEXTURE_2D, name, GL.GL_NEAREST)
        GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_COLOR_ATTACHMENT0 + number, GL.GL_TEXTURE_2D, texture, 0)
    if depth:
        buffer = GL.glGenRenderbuffers(1)
        GL.glBindRenderbuffer(GL.GL_RENDERBUFFER, buffer)
        GL.glRenderbufferStorage(GL.GL_RENDERBUFFER, GL.GL_DEPTH_COMPONENT32F, width, height)
        GL.glFramebufferRenderbuffer(GL.GL_FRAMEBUFFER, GL.GL_DEPTH_ATTACHMENT, GL.GL_RENDERBUFFER, buffer)
    GL.glDrawBuffers(2, [GL.GL_COLOR_ATTACHMENT0, GL.GL_COLOR_ATTACHMENT1])
    if GL.glCheckFramebufferStatus(GL.GL_FRAMEBUFFER) != GL.GL_FRAMEBUFFER_COMPLETE:
        raise RuntimeError(f"OpenGL refuses a {width} × {height} float target")
    return frame, textures
