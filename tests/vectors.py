"""Published answers: NIST SP 800-38A appendix F for AES, SP 800-67 keys for Triple DES."""

from typing import NamedTuple


class Vector(NamedTuple):
    """A cipher's number, and one operation in bytes."""

    name: str
    cipher: int
    key: bytes
    iv: bytes
    plaintext: bytes
    ciphertext: bytes


_PLAIN = (
    "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710"
)
_KEYS = {
    128: "2b7e151628aed2a6abf7158809cf4f3c",
    192: "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
    256: "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
}
_IV = "000102030405060708090a0b0c0d0e0f"
_COUNTER = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"


def _row(name: str, cipher: int, key: str, iv: str, plain: str, secret: str) -> Vector:
    return Vector(name, cipher, *map(bytes.fromhex, (key, iv, plain, secret)))


VECTORS = [
    _row("F.1.1 ECB-AES128", 23, _KEYS[128], "", _PLAIN,
         "3ad77bb40d7a3660a89ecaf32466ef97 f5d3d58503b9699de785895a96fdbaaf"
         "43b1cd7f598ece23881b00e3ed030688 7b0c785e27e8ad3f8223207104725dd4"),
    _row("F.1.3 ECB-AES192", 23, _KEYS[192], "", _PLAIN,
         "bd334f1d6e45f25ff712a214571fa5cc 974104846d0ad3ad7734ecb3ecee4eef"
         "ef7afd2270e2e60adce0ba2face6444e 9a4b41ba738d6c72fb16691603c18e0e"),
    _row("F.1.5 ECB-AES256", 23, _KEYS[256], "", _PLAIN,
         "f3eed1bdb5d2a03c064b5a7e3db181f8 591ccb10d410ed26dc5ba74a31362870"
         "b6ed21b99ca6f4f9f153e7b1beafed1d 23304b7a39f9f3ff067d8d8f9e24ecc7"),
    _row("F.2.1 CBC-AES128", 11, _KEYS[128], _IV, _PLAIN,
         "7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2"
         "73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7"),
    _row("F.2.3 CBC-AES192", 11, _KEYS[192], _IV, _PLAIN,
         "4f021db243bc633d7178183a9fa071e8 b4d9ada9ad7dedf4e5e738763f69145a"
         "571b242012fb7ae07fa9baac3df102e0 08b0e27988598881d920a9e64f5615cd"),
    _row("F.2.5 CBC-AES256", 11, _KEYS[256], _IV, _PLAIN,
         "f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d"
         "39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b"),
    _row("F.5.1 CTR-AES128", 21, _KEYS[128], _COUNTER, _PLAIN,
         "874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff"
         "5ae4df3edbd5d35e5b4f09020db03eab 1e031dda2fbe03d1792170a0f3009cee"),
    _row("F.5.3 CTR-AES192", 21, _KEYS[192], _COUNTER, _PLAIN,
         "1abc932417521ca24f2b0459fe7e6e0b 090339ec0aa6faefd5ccc2c6f4ce8e94"
         "1e36b26bd1ebc670d1bd1d665620abf7 4f78a7f6d29809585a97daec58c6b050"),
    _row("F.5.5 CTR-AES256", 21, _KEYS[256], _COUNTER, _PLAIN,
         "601ec313775789a5b7a7f504bbf3d228 f443e3ca4d62b59aca84e990cacaf5c5"
         "2b0930daa23de94ce87017ba2d84988d dfc9c58db67aada613c2dd08457941a6"),
    # Triple DES with three equal keys is DES: FIPS 81 appendix C, CBC.
    _row("FIPS 81 C CBC", 2, "0123456789abcdef" * 3, "1234567890abcdef",
         "4e6f77206973207468652074696d6520 666f7220616c6c20",
         "e5c7cdde872bf27c43e934008c389c0f 683788499a7c05f6"),
]  # fmt: skip
