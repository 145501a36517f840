"""Sequences of steps, right ones and wrong ones, from a seed."""

from collections.abc import Callable
from random import Random
from typing import Any

from tests.differential.abi import FINAL, NO_ZC, RESET, SRTP, TLS, UPDATE, WRITE_IV
from tests.differential.player import LARGE, NULL, SMALL, STRUCTURE, Place, Sequence, Ses, Step
from tests.differential.primitives import CIPHERS, MACS, TAGS, Algorithm, Mac

IV_AT, TAG_AT, KEY_AT, MACKEY_AT, DATA_AT, OUT_AT, AUTH_AT = 0, 64, 256, 384, 1024, 12288, 24576
"""Where the parts of an operation lie when nothing is wrong."""
SIZES = (0, 1, 5, 15, 16, 17, 31, 32, 33, 48, 64, 100, 128, 255, 256, 1000, 4095, 4096, 4097)
LONG = (
    1 << 20,
    (1 << 20) + 5,
    (1 << 20) + 16,
    (1 << 20) + (128 << 10),
    (1 << 20) + (256 << 10) + 7,
)
STREAMS = [number for number, cipher in CIPHERS.items() if cipher.block == 1]
WITHOUT_AEAD = [number for number, cipher in CIPHERS.items() if not cipher.is_aead]


def sequence(seed: str) -> Sequence:
    """The one of this seed."""
    return Author(Random(seed), seed).write()


class Author:
    """Knows of each session what it was made for, so that most steps come to something."""

    def __init__(self, random: Random, seed: str) -> None:
        self.random, self.seed = random, seed
        self.large = random.random() < 0.02
        self.clumsy = False
        """Whether several things of a step may be wrong: which is told first?"""
        self.steps: list[Step] = []
        self.made: list[tuple[int, Algorithm | None, str]] = []
        """File, cipher and mac of each session."""

    def write(self) -> Sequence:
        """Sessions first, then anything."""
        for _ in range(self.random.choice((1, 1, 2, 3))):
            self.session()
        kinds: list[Callable[[], None]] = [
            *[self.crypt] * 8, *[self.auth] * 6, *[self.hash_steps] * 3, *[self.deferred] * 2,
            self.session, self.odd_session, self.copy_hash, *[self.copied_hash] * 2, self.finish,
            self.info, self.chain, self.chain,
            self.features, self.padded_record, self.padded_record,
        ]  # fmt: skip
        for _ in range(self.random.randint(2, 4 if self.large else 10)):
            self.clumsy = self.chance(10) and not self.large
            self.random.choice(kinds)()
        return Sequence(self.seed, self.large, tuple(self.steps))

    # -- parts

    def chance(self, one_of: int) -> bool:
        return self.random.randrange(one_of) == 0

    def add(self, name: str, file: int, *values: Any) -> None:
        bad = self.chance(60)
        self.steps.append(Step(name, file, values, self.bad_place() if bad else None))

    def bad_place(self) -> Place:
        """Mostly one where something is missing."""
        offset = self.random.choice((-4097, -100, -17, -16, -9, -1, 0, 5))
        places = [
            NULL, Place("absolute", 1), Place("end", offset), Place("readonly", offset),
            Place("absolute", 0xFFFF888000000000), Place("absolute", (1 << 64) - 8),
        ]  # fmt: skip
        return self.random.choice(places)

    def place(self, at: int, size: int = 0) -> Place:
        """Mostly ``at``; else the last bytes of the memory, elsewhere in it, or a bad one."""
        kind = self.random.randrange(40)
        # Of a long operation that meets a bad place, how far it comes is not promised.
        if (kind == 0 and not self.large) or (self.clumsy and self.chance(4)):
            return self.bad_place()
        if kind == 1 and not self.large:
            return Place("end", -size)
        if kind in (2, 3):
            return Place("memory", at + self.random.choice((1, 3, 7, 16)))
        return Place("memory", at)

    def known(self) -> tuple[Ses | int, int, Algorithm | None, str]:
        """A session, and the file to use it on."""
        if self.chance(40) or not self.made:
            return self.random.choice((0, 5, 0xFFFFFFFF)), 0, None, ""
        index = self.random.randrange(len(self.made))
        file, cipher, mac = self.made[index]
        if self.chance(15):
            file = self.random.randrange(3)
        return Ses(index), file, cipher, mac

    def length(self, cipher: Algorithm | None) -> int:
        size = self.random.choice(SIZES)
        if self.large and self.chance(2):
            size = self.random.choice(LONG)
        block = cipher.block if cipher else 1
        return size if self.chance(12) or self.clumsy else size - size % block

    def iv(self) -> Place:
        return NULL if self.chance(3) else self.place(IV_AT, 16)

    def op(self) -> int:
        if self.chance(3 if self.clumsy else 28):
            return 2
        return self.random.choice((0, 1))

    # -- sessions

    def session(self) -> None:
        """One that can be made."""
        number = self.random.choice((0, *CIPHERS, *WITHOUT_AEAD, *STREAMS, 25))
        mac = self.random.choice((0, *[0] * 6, *MACS)) if number not in (0, 50, 51) else 0
        mac = mac or (0 if number else self.random.choice(list(MACS)))
        cipher = CIPHERS.get(number)
        size = self.random.choice(cipher.key_sizes) if cipher else 0
        mac_size = self.random.choice((0, 1, 20, 64, 65, 128, 200, 512)) if mac else 0
        file = self.random.choice((0, 0, 1, 2))
        self.steps.append(self.gsession(file, number, mac, size, mac_size))
        self.made.append((file, cipher, MACS.get(mac, "")))

    def gsession(self, file: int, cipher: int, mac: int, size: int, mac_size: int) -> Step:
        keys = Place("memory", KEY_AT), Place("memory", MACKEY_AT)
        values = cipher, mac, size, keys[0], mac_size, keys[1], 0x12345678
        return Step("CIOCGSESSION", file, values)

    def odd_session(self) -> None:
        """One that probably cannot be made."""
        pick = self.random.choice
        cipher, mac = pick((0, *CIPHERS, 4, 108, 9999)), pick((0, 0, *MACS, 5, 9999))
        sizes = pick((0, 8, 16, 17, 24, 32, 64, 65, 0xFFFFFFFF)), pick((0, 8, 20, 512, 513))
        keys = self.place(KEY_AT, sizes[0] % 256), self.place(MACKEY_AT, sizes[1])
        if self.chance(4):
            keys = pick(((NULL, keys[1]), (keys[0], NULL), (self.bad_place(), self.bad_place())))
        step = self.gsession(pick((0, 1)), cipher, mac, *sizes)
        values = *step.values[:3], keys[0], step.values[4], keys[1], 7
        self.add("CIOCGSESSION", step.file, *values)
        self.made.append((step.file, CIPHERS.get(cipher), MACS.get(mac, "")))

    def finish(self) -> None:
        ses, file, _, _ = self.known()
        if self.chance(2):
            self.add("CIOCFSESSION", file, ses)

    def info(self) -> None:
        ses, file, _, _ = self.known()
        names = [self.random.randbytes(64) for _ in range(4)]
        self.steps.append(Step("CIOCGSESSINFO", file, (ses, *names, 7, 9), None))

    def features(self) -> None:
        self.add("CIOCASYMFEAT", 0, 77)

    def copy_hash(self) -> None:
        """Mostly from one hash of an open file to another one, where there are two."""
        ses, file, _, _ = self.known()
        other = self.known()[0]
        hashes = [
            Ses(at) for at, made in enumerate(self.made) if made[2] and made[0] % 2 == file % 2
        ]
        if len(hashes) > 1 and not self.chance(5):
            ses, other = self.random.sample(hashes, 2)
        self.add("CIOCCPHASH", file, ses, other)

    def copied_hash(self) -> None:
        """One under way that goes on in another session, and in its own."""
        hashes: dict[tuple[int, str], list[int]] = {}
        for at, (file, _, mac) in enumerate(self.made):
            if mac:
                family = mac.removeprefix("hmac(").rstrip(")")
                hashes.setdefault((file % 2, family), []).append(at)
        pairs = [(file, two) for (file, _), two in hashes.items() if len(two) > 1]
        if not pairs:
            self.relative()
            return
        file, two = self.random.choice(pairs)
        source, target = self.random.sample(two, 2)
        self.hash_once(source, file, UPDATE)
        self.add("CIOCCPHASH", file, Ses(target), Ses(source))
        for at in self.random.sample((source, target), 2):
            self.hash_once(at, file, self.random.choice((UPDATE, FINAL)))
            self.hash_once(at, file, FINAL)

    def relative(self) -> None:
        """Another session with a hash that there is already."""
        macs = [(file, mac) for file, _, mac in self.made if mac]
        if macs:
            file, name = self.random.choice(macs)
            family = name.removeprefix("hmac(").rstrip(")")
            mac = self.random.choice(
                [
                    at
                    for at, other in MACS.items()
                    if other.removeprefix("hmac(").rstrip(")") == family
                ]
            )
            self.steps.append(self.gsession(file, 0, mac, 0, self.random.choice((0, 20, 200))))
            self.made.append((file, None, MACS[mac]))

    def hash_once(self, at: int, file: int, flags: int) -> None:
        cipher = self.made[at][1]
        self.one("CIOCCRYPT", Ses(at), file, 0, flags, self.length(cipher))

    # -- operations

    def chain(self) -> None:
        """An operation with an IV, and one that goes on from it."""
        ses, file, cipher, _ = self.known()
        for iv in (Place("memory", IV_AT), NULL):
            places = Place("memory", DATA_AT), Place("memory", OUT_AT), Place("memory", TAG_AT)
            size = self.length(cipher) % 8192
            self.add("CIOCCRYPT", file, ses, self.random.choice((0, 1)), 0, size, *places, iv)

    def crypt(self, name: str = "CIOCCRYPT") -> None:
        """One operation."""
        ses, file, cipher, _ = self.known()
        size = self.length(cipher)
        flags = self.random.choice((0, 0, 0, UPDATE, FINAL, UPDATE | FINAL, RESET, RESET | UPDATE))
        flags |= WRITE_IV * self.chance(2) | NO_ZC * self.chance(4) | 0x8080 * self.chance(30)
        self.one(name, ses, file, self.op(), flags, size)

    def one(self, name: str, ses: Any, file: int, op: int, flags: int, size: int) -> None:
        src, dst = self.buffers(size)
        mac = NULL if self.chance(25) else self.place(TAG_AT, 20)
        self.add(name, file, ses, op, flags, size, src, dst, mac, self.iv())

    def buffers(self, size: int) -> tuple[Place, Place]:
        """In place, apart, or overlapping."""
        data, out = (DATA_AT, DATA_AT + (LARGE >> 1)) if self.large else (DATA_AT, OUT_AT)
        src = self.place(data, size)
        kind = self.random.randrange(8)
        if kind < 3:
            return src, src
        if kind == 3:
            shift = self.random.choice((-16, -5, -1, 1, 5, 16, 300))
            return src, Place(src.of, src.offset + shift) if src.of != "absolute" else src
        dst = self.place(out, size)
        return (src, NULL) if self.chance(12) and not self.large else (src, dst)

    def hash_steps(self) -> None:
        """Several for one hash; now and then with something between that resets it."""
        ses, file, cipher, _ = self.known()
        for _ in range(self.random.randint(1, 3)):
            self.one("CIOCCRYPT", ses, file, 0, UPDATE, self.length(cipher))
        if self.chance(4):
            kind = self.random.choice((0, TLS, SRTP))
            values = self.auth_values(ses, kind, self.random.choice(SIZES), 13, 0)
            self.add("CIOCAUTHCRYPT", file, *values)
        size = self.random.choice((0, self.length(cipher)))
        flags = self.random.choice((FINAL, UPDATE | FINAL, RESET | UPDATE, RESET | FINAL))
        self.one("CIOCCRYPT", ses, file, self.op(), flags, size)

    def deferred(self) -> None:
        """Several, of which some are fetched."""
        count = 66 if self.chance(20) else self.random.randint(1, 3)
        for _ in range(count):
            self.crypt("CIOCASYNCCRYPT") if count < 60 else self.small_job()
        file = self.steps[-1].file
        for _ in range(self.random.randint(0, count + 1)):
            self.add("CIOCASYNCFETCH", file, *range(1, 9))

    def small_job(self) -> None:
        ses, file, cipher, _ = self.known()
        self.one("CIOCASYNCCRYPT", ses, file, 0, 0, cipher.block if cipher else 1)

    def auth(self) -> None:
        """Seal, and mostly open what was made of it; now and then with something changed."""
        ses, file, cipher, mac = self.known()
        if cipher is None:
            ses, file, cipher, mac = self.known()
        kind = self.kind(cipher)
        kind |= WRITE_IV * self.chance(3)
        size, header = (
            self.random.choice(SIZES),
            self.random.choice((0, 1, 12, 13, 13, 255, 256, 257)),
        )
        if self.large and self.chance(3):
            size = self.random.choice(LONG)
        self.header(cipher)
        tag = self.tag_size(cipher, mac)
        values = self.auth_values(ses, kind, size, header, tag)
        if self.clumsy or self.chance(5):
            values[1] = self.op()
        self.add("CIOCAUTHCRYPT", file, *values)
        if self.chance(4):
            return
        if self.chance(4):
            at = self.random.choice((values[6].offset + self.random.randrange(size + 20), TAG_AT))
            if 0 < at < SMALL - 1024:
                self.steps.append(Step("flip", 0, (Place("memory", at), 1, 1 << at % 8)))
        opening = [*values]
        opening[1], opening[3] = 1, self.opened_size(cipher, mac, kind, size, tag)
        if cipher and cipher.is_aead and values[6] != values[7]:
            opening[6], opening[7] = values[7], values[6]
        self.add("CIOCAUTHCRYPT", file, *opening)

    def header(self, cipher: Algorithm | None) -> None:
        if cipher and cipher.mode == "ccm" and not self.chance(6):
            self.steps.append(Step("fill", 0, (Place("memory", IV_AT), 1, 3)))

    def kind(self, cipher: Algorithm | None) -> int:
        """Mostly one that the cipher can be used with."""
        if cipher is None or self.chance(10):
            return self.random.choice((0, TLS, SRTP, TLS | SRTP))
        if cipher.is_aead:
            return 0
        return self.random.choice((TLS, SRTP, SRTP) if cipher.mode == "ctr" else (TLS, TLS, SRTP))

    def tag_size(self, cipher: Algorithm | None, mac: str) -> int:
        if self.chance(2):
            return 0
        if cipher and cipher.is_aead and not self.chance(6):
            return self.random.choice(TAGS[cipher.mode])
        if mac and not self.chance(6):
            return self.random.randint(1, Mac(mac, b"").size)
        return self.random.choice((4, 5, 10, 12, 16, 17, 20, 21, 64, 65, 0xFFFFFFFF))

    def auth_values(self, ses: Any, kind: int, size: int, header: int, tag: int) -> list[Any]:
        src, dst = self.buffers(size)
        auth, auth_len = self.place(AUTH_AT if not self.large else LARGE - 8192, header), header
        if kind & (TLS | SRTP) and not self.chance(15):
            dst = src
        if kind & SRTP:
            auth = Place(src.of, src.offset - header) if not self.chance(15) else auth
            auth_len = header + size + self.random.choice((0, 0, 4))
        if self.chance(20):
            auth_len = self.random.choice((0, 4096, 4097, 0xFFFFFFFF))
        tag_place = NULL if self.chance(20) else self.place(TAG_AT, 16)
        return [ses, 0, kind, size, auth_len, auth, src, dst, tag_place, tag, self.iv(), 16]

    def opened_size(
        self, cipher: Algorithm | None, mac: str, kind: int, size: int, tag: int
    ) -> int:
        """The length that the sealed one has, as far as it can be known here."""
        if kind & SRTP or self.chance(15):
            return size
        if cipher and cipher.is_aead:
            return size + (min(tag, 64) or 16)
        digest = Mac(mac, b"").size if mac else 0
        whole = size + (min(tag, 64) or digest if mac else 0)
        block = cipher.block if cipher else 1
        return whole + (block - whole % block if block > 1 else 0)

    def padded_record(self) -> None:
        """A record whose last byte says how much padding there is, true or not."""
        ses, file, cipher, _ = self.known()
        block = cipher.block if cipher else 16
        size = block * self.random.choice((1, 2, 3, 4, 17))
        pad = self.random.choice((1, 2, block, block + 1, size, size + 1, 200)) % 256 or 1
        room = pad if not self.chance(3) else 1
        place, iv = Place("memory", DATA_AT), Place("memory", IV_AT)
        self.steps.append(
            Step(
                "fill",
                0,
                (Place("memory", DATA_AT + max(size - room, 0)), min(room, size), pad - 1),
            )
        )
        self.add("CIOCCRYPT", file, ses, 0, 0, size, place, place, Place("memory", TAG_AT), iv)
        tag, values = self.random.choice((0, 1, 10, 16, 20)), [0, NULL, place, place, NULL]
        self.add("CIOCAUTHCRYPT", file, ses, 1, TLS, size, *values, tag, iv, 0)


assert SMALL > AUTH_AT + 4097 + STRUCTURE
