"""Rasterise posed bodies on pyrender's off-screen OpenGL (EGL): one pass, float targets.

pyrender opens the context; the drawing is one small program of our own. pyrender would build a
scene and upload every buffer anew for each picture, and read back 8-bit multisampled colour. Here
a mesh's triangles stay on the device. One pass at `SAMPLES` times the size writes normals, depth
and, where there is one, albedo together. A second pass, of the picture's size, reduces it: the
middle sample of a pixel is exactly its centre, so depth and normals are point samples in float32,
while albedo and cover are means. Light is added afterwards in NumPy, so that every image of the
study comes from the same few lines and does not depend on a shader.
"""

import os

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
# One thread for software OpenGL: the worker processes are the parallelism.
os.environ.setdefault("LP_NUM_THREADS", "0")

import ctypes
from collections import OrderedDict
from functools import lru_cache

import numpy as np
import pyrender
from OpenGL import GL

from posedive_lib.body.opengl import know_references, load_triton
from posedive_lib.body.raster import NEAR, SAMPLES, Mesh, Raster

know_references()

FAR = 100.0  # metres: what is farther from the camera is not drawn
KEPT = 64  # meshes whose triangles stay on the device

# Each program comes with COLOUR defined, and without for bodies of no albedo: a third less to
# draw, clear and reduce.
DRAW_VERTEX = """
layout(location = 0) in vec3 point;   // camera frame, OpenCV axes, metres
layout(location = 1) in vec3 normal;  // OpenGL axes
uniform vec4 lens;  // 2 f / width, 2 f / height, near, far
out vec4 direction_depth;
#ifdef COLOUR
layout(location = 2) in vec3 albedo;
out vec3 colour;
#endif
void main() {
    float clip = (point.z * (lens.w + lens.z) - 2.0 * lens.w * lens.z) / (lens.w - lens.z);
    // y stays down: OpenGL's lowest row is the picture's first
    gl_Position = vec4(lens.xy * point.xy, clip, point.z);
    direction_depth = vec4(normal, point.z);
#ifdef COLOUR
    colour = albedo;
#endif
}"""
DRAW_FRAGMENT = """
in vec4 direction_depth;
layout(location = 0) out vec4 normal_depth;
#ifdef COLOUR
in vec3 colour;
layout(location = 1) out vec4 albedo;
#endif
void main() {
    normal_depth = vec4(normalize(direction_depth.xyz), direction_depth.w);
#ifdef COLOUR
    albedo = vec4(colour, 1.0);
#endif
}"""
REDUCE_VERTEX = """
void main() {  // one triangle that covers the picture
    vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
    gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}"""
REDUCE_FRAGMENT = """
uniform sampler2D normal_depth;
layout(location = 0) out vec4 normal_out;
#ifdef COLOUR
uniform sampler2D albedo;
layout(location = 1) out vec4 albedo_cover;
#else
layout(location = 1) out float cover;
#endif
const int S = SAMPLES;
void main() {
    ivec2 corner = ivec2(gl_FragCoord.xy) * S;
    float hits = 0.0;
    vec3 direction = vec3(0.0), colour = vec3(0.0);
    for (int y = 0; y < S; y++)
        for (int x = 0; x < S; x++) {
            vec4 here = texelFetch(normal_depth, corner + ivec2(x, y), 0);
            hits += here.w > 0.0 ? 1.0 : 0.0;
            direction += here.xyz;
#ifdef COLOUR
            colour += texelFetch(albedo, corner + ivec2(x, y), 0).rgb;
#endif
        }
    vec4 centre = texelFetch(normal_depth, corner + S / 2, 0);
    // A rim pixel whose centre misses the body still has a colour, and so a direction.
    vec3 mean = direction / max(length(direction), 1e-6);
    normal_out = vec4(centre.w > 0.0 ? centre.xyz : mean, centre.w);
#ifdef COLOUR
    albedo_cover = vec4(colour / max(hits, 1.0), hits / float(S * S));
#else
    cover = hits / float(S * S);
#endif
}""".replace("SAMPLES", str(SAMPLES))


class _Device:
    """The process's OpenGL context and programs, opened once and shared by all rasterisers.

    pyrender ends the whole display when one of its contexts is deleted, so this one lives as long
    as the process.
    """

    def __init__(self) -> None:
        load_triton()
        self.host = pyrender.OffscreenRenderer(1, 1)
        self.current()
        self.programs = {coloured: _Programs(coloured) for coloured in (False, True)}
        # The reducing triangle has no attributes, but a core profile wants an array bound.
        self.empty = GL.glGenVertexArrays(1)

    def current(self) -> None:
        self.host._platform.make_current()  # other pyrender users of the process may have taken it


class _Programs:
    """What draws the samples and what reduces them to pixels, with or without colour."""

    def __init__(self, coloured: bool):
        self.draw = _program(DRAW_VERTEX, DRAW_FRAGMENT, coloured)
        self.reduce = _program(REDUCE_VERTEX, REDUCE_FRAGMENT, coloured)
        self.lens = GL.glGetUniformLocation(self.draw, "lens")
        GL.glUseProgram(self.reduce)
        textures = ("normal_depth", "albedo") if coloured else ("normal_depth",)
        for unit, name in enumerate(textures):
            GL.glUniform1i(GL.glGetUniformLocation(self.reduce, name), unit)


@lru_cache(maxsize=1)
def _device(pid: int) -> _Device:
    return _Device()


class _Triangles:
    """A mesh on the device: indices that stay, vertex buffers filled anew for each picture."""

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
        """Points, normals and, if the program asks for it, albedo (V, 3) float32 each."""
        GL.glBindVertexArray(self.array)
        for buffer, some in zip(self.vertex, values, strict=False):
            GL.glBindBuffer(GL.GL_ARRAY_BUFFER, buffer)
            GL.glBufferData(GL.GL_ARRAY_BUFFER, some.nbytes, some, GL.GL_STREAM_DRAW)
        GL.glDrawElements(GL.GL_TRIANGLES, self.count, GL.GL_UNSIGNED_INT, ctypes.c_void_p(0))

    def delete(self) -> None:
        GL.glDeleteBuffers(4, [*self.vertex, self.index])
        GL.glDeleteVertexArrays(1, [self.array])


class Rasteriser:
    """Draws meshes at one size; `focal` in pixels, principal point at the centre.

    Keeps its targets and the last meshes' triangles.
    """

    def __init__(self, height: int, width: int, focal: float):
        self.height, self.width, self.focal = height, width, focal
        self.device = _device(os.getpid())
        self.targets: dict[bool, tuple[_Target, _Target]] = {}
        self.triangles: OrderedDict[int, tuple[np.ndarray, _Triangles]] = OrderedDict()

    def _on_device(self, faces: np.ndarray) -> _Triangles:
        key = id(faces)  # the array itself is kept beside, so its id is not given to another
        if key not in self.triangles:
            if len(self.triangles) >= KEPT:
                self.triangles.popitem(last=False)[1][1].delete()
            self.triangles[key] = faces, _Triangles(faces)
        self.triangles.move_to_end(key)
        return self.triangles[key][1]

    def _on(self, coloured: bool) -> tuple["_Target", "_Target"]:
        """Where the samples are drawn and where they are reduced to pixels."""
        if coloured not in self.targets:
            fine, reduced = ([4, 4], [4, 4]) if coloured else ([4], [4, 1])
            self.targets[coloured] = (
                _Target(self.height * SAMPLES, self.width * SAMPLES, fine, depth=True),
                _Target(self.height, self.width, reduced),
            )
        return self.targets[coloured]

    def __call__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        albedo: np.ndarray | None = None,
        stretch: float = 1.0,
    ) -> Raster:
        """Rasterise camera-frame vertices (V, 3) in metres (OpenCV axes).

        albedo: (V, 3) in [0, 1], or None. stretch: of the picture, across.
        """
        self.device.current()
        coloured = albedo is not None
        triangles, programs = self._on_device(faces), self.device.programs[coloured]
        fine, target = self._on(coloured)
        points = np.ascontiguousarray(vertices, np.float32)
        values = [points, triangles.mesh.normals(points)]
        if albedo is not None:
            values.append(np.ascontiguousarray(albedo, np.float32))
        fine.bind()
        self._begin_samples(programs, stretch)
        triangles.draw(*values)
        target.bind()
        self._reduce(programs, fine)
        first, second = target.read()
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, 0)
        colours = second[..., :3] if coloured else None
        return Raster(colours, second[..., -1], first[..., :3], first[..., 3])

    def _begin_samples(self, programs: _Programs, stretch: float) -> None:
        """Clear the samples' target and set what draws them."""
        GL.glDisable(GL.GL_BLEND)
        GL.glEnable(GL.GL_DEPTH_TEST)
        GL.glEnable(GL.GL_CULL_FACE)
        GL.glFrontFace(GL.GL_CW)  # counter-clockwise from outside, mirrored by y down
        GL.glDepthFunc(GL.GL_LESS)
        GL.glDepthMask(GL.GL_TRUE)
        GL.glClearColor(0, 0, 0, 0)
        GL.glClearDepth(1)
        GL.glClear(GL.GL_COLOR_BUFFER_BIT | GL.GL_DEPTH_BUFFER_BIT)
        GL.glUseProgram(programs.draw)
        across, down = 2 * self.focal * stretch / self.width, 2 * self.focal / self.height
        GL.glUniform4f(programs.lens, across, down, NEAR, FAR)

    def _reduce(self, programs: _Programs, fine: "_Target") -> None:
        """Draw the picture's pixels from the samples."""
        GL.glDisable(GL.GL_DEPTH_TEST)
        GL.glDisable(GL.GL_CULL_FACE)
        GL.glUseProgram(programs.reduce)
        for unit, texture in enumerate(fine.textures):
            GL.glActiveTexture(GL.GL_TEXTURE0 + unit)
            GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
        GL.glBindVertexArray(self.device.empty)
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)


FORMATS = {1: (GL.GL_R32F, GL.GL_RED), 4: (GL.GL_RGBA32F, GL.GL_RGBA)}  # channels of a texture


class _Target:
    """A frame buffer with a float32 texture for each of the given numbers of channels.

    And with a depth buffer if asked.
    """

    def __init__(self, height: int, width: int, channels: list[int], depth: bool = False):
        self.height, self.width, self.channels = height, width, channels
        self.frame = GL.glGenFramebuffers(1)
        self.depth = GL.glGenRenderbuffers(1) if depth else None
        self.textures = [int(GL.glGenTextures(1)) for _ in channels]
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self.frame)
        places = [GL.GL_COLOR_ATTACHMENT0 + number for number in range(len(channels))]
        flat = GL.GL_TEXTURE_2D
        for place, texture, count in zip(places, self.textures, channels, strict=True):
            inside, outside = FORMATS[count]
            GL.glBindTexture(flat, texture)
            GL.glTexImage2D(flat, 0, inside, width, height, 0, outside, GL.GL_FLOAT, None)
            for name in (GL.GL_TEXTURE_MIN_FILTER, GL.GL_TEXTURE_MAG_FILTER):
                GL.glTexParameteri(flat, name, GL.GL_NEAREST)
            GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, place, flat, texture, 0)
        if depth:
            buffer = GL.GL_RENDERBUFFER
            GL.glBindRenderbuffer(buffer, self.depth)
            GL.glRenderbufferStorage(buffer, GL.GL_DEPTH_COMPONENT32F, width, height)
            GL.glFramebufferRenderbuffer(
                GL.GL_FRAMEBUFFER, GL.GL_DEPTH_ATTACHMENT, buffer, self.depth
            )
        GL.glDrawBuffers(len(places), places)
        if GL.glCheckFramebufferStatus(GL.GL_FRAMEBUFFER) != GL.GL_FRAMEBUFFER_COMPLETE:
            raise RuntimeError(f"OpenGL refuses a {width} x {height} float target")

    def bind(self) -> None:
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self.frame)
        GL.glViewport(0, 0, self.width, self.height)

    def read(self) -> list[np.ndarray]:
        """The textures (H, W, channels); the target is bound."""
        found = []
        for number, count in enumerate(self.channels):
            pixels = np.empty((self.height, self.width, count), np.float32)
            GL.glReadBuffer(GL.GL_COLOR_ATTACHMENT0 + number)
            GL.glReadPixels(0, 0, self.width, self.height, FORMATS[count][1], GL.GL_FLOAT, pixels)
            found.append(pixels)
        return found


def _program(vertex: str, fragment: str, coloured: bool) -> int:
    program = GL.glCreateProgram()
    head = "#version 410\n#define COLOUR" if coloured else "#version 410"
    for kind, text in ((GL.GL_VERTEX_SHADER, vertex), (GL.GL_FRAGMENT_SHADER, fragment)):
        shader = GL.glCreateShader(kind)
        GL.glShaderSource(shader, head + text)
        GL.glCompileShader(shader)
        if not GL.glGetShaderiv(shader, GL.GL_COMPILE_STATUS):
            raise RuntimeError(GL.glGetShaderInfoLog(shader))
        GL.glAttachShader(program, shader)
    GL.glLinkProgram(program)
    if not GL.glGetProgramiv(program, GL.GL_LINK_STATUS):
        raise RuntimeError(GL.glGetProgramInfoLog(program))
    return program
