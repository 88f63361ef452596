"""OpenGL 3.3 shaders of the camera renderer.  Light is linear; lengths are metres in the world frame."""
from __future__ import annotations

from mpnp_world.models.mesh import INDEX

MAX_SPOTS, MAX_LAMPS = 10, 8
"""Maximum number of head lights and street lamps per view."""

_HEADER = '\n'.join(['#version 330', *(f'#define M_{name.upper()} {index}' for name, index in INDEX.items()),
                     f'#define MATERIALS {len(INDEX)}', f'#define SPOTS {MAX_SPOTS}',
                     f'#define LAMPS {MAX_LAMPS}', ''])

MODEL_VERTEX = _HEADER + """
in vec3 position, facing;
in float substance;
in vec4 row0, row1, row2, paint;      // unit box -> world; the object's colour and its lights
uniform mat4 view;
out vec3 world, normal, local;        // local: metres in the object's own frame
out vec2 surface;                     // metres along and up a wall
flat out int material;
flat out vec4 tint;
flat out float odd;                   // a number in 0..1 of this object's own
void main() {
    vec4 p = vec4(position, 1);
    world = vec3(dot(row0, p), dot(row1, p), dot(row2, p));
    vec3 squares = row0.xyz * row0.xyz + row1.xyz * row1.xyz + row2.xyz * row2.xyz;
    vec3 n = facing / squares;
    normal = vec3(dot(row0.xyz, n), dot(row1.xyz, n), dot(row2.xyz, n));
    local = position * sqrt(squares);
    surface = vec2(abs(facing.x) > .5 ? local.y : local.x, local.z);
    material = int(substance + .5);
    tint = paint;
    odd = fract(dot(paint.rgb, vec3(127.1, 311.7, 74.7)));
    gl_Position = view * vec4(world, 1);
}
"""

SHADOW_VERTEX = """#version 330
in vec3 position;
in vec4 row0, row1, row2;
uniform mat4 view;
void main() {
    vec4 p = vec4(position, 1);
    gl_Position = view * vec4(dot(row0, p), dot(row1, p), dot(row2, p), 1);
}
"""

SHADOW_FRAGMENT = """#version 330
void main() {}
"""

_NOISE = """
float hash(vec2 v) {
    v = fract(v * vec2(123.34, 456.21));
    v += dot(v, v + 45.32);
    return fract(v.x * v.y);
}
float noise(vec2 v) {
    vec2 i = floor(v), f = fract(v);
    f = f * f * (3. - 2. * f);
    float near = mix(hash(i), hash(i + vec2(1, 0)), f.x);
    return mix(near, mix(hash(i + vec2(0, 1)), hash(i + vec2(1, 1)), f.x), f.y);
}
"""

_LIT = """
in vec3 world, normal, local;
in vec2 surface;
flat in int material;
flat in vec4 tint;
flat in float odd;
uniform vec4 substances[MATERIALS];   // colour, gloss
uniform vec3 eye, sun_direction, sun, sky, bounce, haze;
uniform float haze_density, darkness, wetness, blink;
uniform mat4 shadow_view;
uniform sampler2DShadow shadow_map;
uniform int spots, lamps;
uniform vec4 spot_place[SPOTS];       // position, power
uniform vec4 spot_heading[SPOTS];     // horizontal direction, 0, 0
uniform vec4 lamp_place[LAMPS];       // position, power
layout(location = 0) out vec4 radiance;

struct Surface {
    vec3 colour, glow;
    float gloss, sharp, open;         // sharpness of highlights; share of the sky that it sees
};
""" + _NOISE

_LIGHTING = """
float sunlit(vec3 n) {
    vec3 at = (shadow_view * vec4(world + n * .08, 1)).xyz * .5 + .5;
    float texel = .6 / SHADOW_SIZE;
    vec3 up = vec3(texel, texel, 0), down = vec3(texel, -texel, 0);
    float lit = .25 * (texture(shadow_map, at + up) + texture(shadow_map, at - up)
                     + texture(shadow_map, at + down) + texture(shadow_map, at - down));
    return any(greaterThan(abs(at - .5), vec3(.5))) ? 1. : lit;
}

float highlight(vec3 n, vec3 to_light, vec3 to_eye, Surface s) {
    return s.gloss * s.sharp * .05 * pow(max(dot(n, normalize(to_light + to_eye)), 0.), s.sharp);
}

void main() {
    vec3 n = normalize(normal), to_eye = eye - world;
    float far = length(to_eye);
    to_eye /= far;
    Surface s = finish(far);
    float cosine = max(dot(n, to_eye), 0.);
    float mirror = s.gloss + (1. - s.gloss) * pow(1. - cosine, 5.) * step(.1, s.gloss);
    vec3 reflected = mix(bounce, sky * 1.3, smoothstep(-.1, .3, reflect(-to_eye, n).z));
    vec3 light = s.colour * mix(bounce, sky, n.z * .5 + .5) * s.open + reflected * mirror * .6;
#ifdef SUNNY
    float share = max(dot(n, sun_direction), 0.) * sunlit(n);
    light += sun * share * (s.colour + highlight(n, sun_direction, to_eye, s));
#else
    light += sun * max(dot(n, sun_direction), 0.) * s.colour;
#endif
    for (int i = 0; i < spots; i++) {
        vec3 to = spot_place[i].xyz - world;
        float square = dot(to, to);
        if (square > 3600.) continue;
        float away = sqrt(square);
        to /= away;
        float ahead = dot(-to.xy, spot_heading[i].xy) / max(length(to.xy), 1e-3);
        float above = world.z - spot_place[i].z - .02 * away + .1;
        float beam = smoothstep(.80, .985, ahead) * smoothstep(.7, -.2, above);
        float power = spot_place[i].w * 16. * beam / (square + 6.);
        light += vec3(1., .95, .85) * power
               * (s.colour * (.12 + .88 * max(dot(n, to), 0.)) + highlight(n, to, to_eye, s));
    }
    for (int i = 0; i < lamps; i++) {
        vec3 to = lamp_place[i].xyz - world;
        float square = dot(to, to);
        if (square > 700. || to.z < 0.) continue;
        to *= inversesqrt(square);
        float power = lamp_place[i].w * smoothstep(.35, .85, to.z) / (square + 16.);
        light += vec3(1., .76, .45) * power * (s.colour * max(dot(n, to), 0.) + highlight(n, to, to_eye, s));
    }
    light += s.glow * (.4 + .6 * cosine);
    radiance = vec4(mix(haze, light, exp(-far * haze_density)), 1);
}
"""

_GROUND = """
Surface finish(float far) {
    bool road = material == M_ROAD, paved = material == M_SIDEWALK, grown = material == M_GRASS;
    float broad = noise(world.xy * (grown ? .6 : .22));
    float grain = noise(world.xy * (road ? 17. : 5.)) - .5;
    vec2 cell = abs(fract(world.xy / 1.2) - .5);
    float tone = road ? .85 + .36 * broad + .35 * grain * exp(-far * .12)
               : paved ? (.88 + .2 * hash(floor(world.xy / 1.2))) * (max(cell.x, cell.y) > .485 ? .78 : 1.)
               : grown ? .6 + .5 * broad + .3 * grain * exp(-far * .05) : .82 + .36 * grain;
    float wet = paved || grown ? 0. : wetness;
    float gloss = substances[material].a;
    vec3 colour = substances[material].rgb * tone * mix(1., .5, wet);
    return Surface(colour, vec3(0), mix(gloss, .11, wet), mix(12., 90., wet), 1.);
}
"""

_WALL = """
Surface finish(float far) {
    bool shop = surface.y < 3.6;
    vec2 grid = vec2((surface.x + 40.) / (2.2 + 1.4 * odd), shop ? surface.y / 3.6 : (surface.y - 3.6) / 3.0);
    vec2 id = floor(grid), f = fract(grid);
    vec2 low = shop ? vec2(.07, .10) : vec2(.22, .28), high = shop ? vec2(.93, .78) : vec2(.78, .82);
    float glass = step(low.x, f.x) * step(f.x, high.x) * step(low.y, f.y) * step(f.y, high.y);
    float pick = hash(id + floor(odd * 97.) + (shop ? 31. : 0.));
    float lit = max(pick - (shop ? .68 : .84), 0.) * (shop ? .30 : .42) * (.6 + .8 * hash(id + 5.));
    float tone = .92 + .16 * hash(floor(surface * vec2(.5, 1.3)));
    vec3 plaster = tint.rgb * tone * (shop ? .75 : 1.) * (f.y < .06 ? .8 : 1.);
    vec4 substance = substances[material];
    bool roof = material == M_ROOF;
    glass = roof ? 0. : glass;
    vec3 colour = roof ? substance.rgb : mix(plaster, vec3(.05, .07, .09) * (1. + pick), glass);
    return Surface(colour, glass * darkness * lit * vec3(1., .72, .38), mix(substance.a, .4, glass), 60.,
                   mix(.6, 1., clamp(world.z * .7, 0., 1.)));
}
"""

_THING = """
bool has(float bit) { return mod(floor(tint.a / bit), 2.) > .5; }

vec3 emission() {
    bool lit = has(1.), brake = has(2.);
    if (material == M_TAIL_LIGHT) return vec3(1., .03, .02) * (brake ? 4.0 : lit ? .2 + .1 * darkness : 0.);
    if (material == M_HEAD_LIGHT) return lit ? vec3(1., .96, .86) * mix(.7, 9., darkness) : vec3(0);
    if (material == M_ORANGE_LIGHT) return lit ? vec3(1., .4, .05) * (.15 + .5 * darkness) : vec3(0);
    if (material == M_SIREN_LIGHT) return has(4.) ? vec3(.1, .3, 6.) * blink : vec3(0);
    if (material == M_LAMP_GLASS) return vec3(9., 7.2, 4.2) * darkness;
    if (material == M_SIGNAL_RED && has(8.)) return vec3(4., .08, .04);
    if (material == M_SIGNAL_YELLOW && has(16.)) return vec3(4., 2.2, .1);
    if (material == M_SIGNAL_GREEN && has(32.)) return vec3(.1, 3.2, 1.6);
    return vec3(0);
}

Surface finish(float far) {
    vec3 colour = substances[material].rgb;
    if (material == M_PAINT || material == M_CLOTH) colour *= tint.rgb;
    else if (material == M_TROUSERS) colour = mix(vec3(.03, .04, .09), vec3(.22, .19, .15), odd * odd);
    else if (material == M_HAIR) colour *= .5 + 2. * odd;
    else if (material == M_SKIN) colour *= .45 + .7 * odd;
    else if (material == M_LEAF) colour *= .5 + noise(local.xz * 5. + local.y * 4. + odd * 9.);
    float sharp = material == M_GLASS ? 90. : material == M_PAINT ? 60. : 20.;
    float open = mix(.6, 1., clamp(world.z * .7, 0., 1.));
    return Surface(colour, emission(), substances[material].a, sharp, open);
}
"""

SURFACES = {'ground': _GROUND, 'wall': _WALL, 'thing': _THING}
"""Shading by group of materials; separate programs, because Mesa's software runs every branch."""


def model_fragment(surface: str, sunny: bool, shadow_size: int) -> str:
    """Fragment shader of a group of :data:`SURFACES`; sunny: with a shadow map, `shadow_size` pixels wide."""
    options = f'#define SHADOW_SIZE {shadow_size}.\n' + '#define SUNNY\n' * sunny
    return _HEADER + options + _LIT + SURFACES[surface] + _LIGHTING


SCREEN_VERTEX = """#version 330
in vec2 corner;
out vec2 uv;
void main() {
    uv = corner * .5 + .5;
    gl_Position = vec4(corner, 1, 1);
}
"""

SKY_FRAGMENT = """#version 330
in vec2 uv;
uniform mat3 rotation;                // camera -> world
uniform vec4 lens;                    // focal lengths and principal point as shares of the image
uniform vec3 zenith, horizon, glow, sun_direction;
uniform float clouds, drift;
layout(location = 0) out vec4 radiance;
""" + _NOISE + """
void main() {
    vec3 d = normalize(rotation * vec3((uv - lens.zw) / lens.xy, 1));
    float up = clamp(d.z, 0., 1.);
    vec3 light = mix(horizon, zenith, pow(up, .45));
    float near_sun = max(dot(normalize(d.xy), normalize(sun_direction.xy)), 0.);
    light += glow * pow(near_sun, 3.) * exp(-up * 5.);
    vec2 at = d.xy / (up + .12) * 1.4 + drift;
    float cloud = .5 * noise(at) + .25 * noise(at * 2.1) + .19 * noise(at * 4.4);
    float cover = smoothstep(.62 - clouds, .95 - clouds, cloud) * smoothstep(0., .15, up);
    light = mix(light, horizon * 1.12, .75 * cover);
    radiance = vec4(light, 1);
}
"""

BLUR_FRAGMENT = """#version 330
in vec2 uv;
uniform sampler2D source;
uniform vec2 direction;
uniform float threshold;
out vec4 light;
void main() {
    vec3 sum = vec3(0);
    float weights = 0.;
    for (int i = -5; i <= 5; i++) {
        float weight = exp(-float(i * i) / 12.);
        sum += weight * clamp(texture(source, uv + direction * float(i)).rgb - threshold, 0., 30.);
        weights += weight;
    }
    light = vec4(sum / weights, 1);
}
"""

DEVELOP_FRAGMENT = """#version 330
in vec2 uv;
uniform sampler2D scene, halo;
uniform float exposure, halo_share;
out vec4 pixel;
void main() {
    vec2 from_middle = uv - .5;
    vec3 light = texture(scene, uv).rgb + halo_share * texture(halo, uv).rgb;
    light *= exposure * (1. - .35 * dot(from_middle, from_middle));
    light = clamp(light * (2.51 * light + .03) / (light * (2.43 * light + .59) + .14), 0., 1.);
    pixel = vec4(pow(light, vec3(1. / 2.2)), 1);
}
"""
"""Exposure, vignetting, film curve (Narkowicz's fit of ACES) and gamma."""
