"""Makes an operator, two accounts and a user of NATS: app.creds for the user, operator.conf for the server. openssl signs."""

import base64
import json
import os
import subprocess

PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
SEED, OPERATOR, ACCOUNT, USER = 18 << 3, 14 << 3, 0, 20 << 3


def openssl(seed, *args, data=None):
    with open("key.der", "wb") as key:
        key.write(PKCS8 + seed)
    with open("data", "wb") as file:
        file.write(data or b"")
    return subprocess.run(["openssl", *args], check=True, stdout=subprocess.PIPE).stdout


def checksum(text):
    crc = 0
    for byte in text:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc.to_bytes(2, "little")


def base32(text):
    return base64.b32encode(text + checksum(text)).decode().rstrip("=")


def base64url(text):
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


class Key:
    def __init__(self, kind):
        self.seed = os.urandom(32)
        public = openssl(self.seed, "pkey", "-inform", "DER", "-in", "key.der", "-pubout", "-outform", "DER")[-32:]
        self.public = base32(bytes([kind]) + public)
        self.text = base32(bytes([SEED | kind >> 5, (kind & 31) << 3]) + self.seed)

    def token(self, subject, claims):
        payload = {"jti": "1", "iat": 1700000000, "iss": self.public, "sub": subject.public, "name": "test", "nats": claims}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, payload]
        text = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        args = ["pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", "key.der", "-in", "data"]
        return text + "." + base64url(openssl(self.seed, *args, data=text.encode()))


operator, system, account, user = Key(OPERATOR), Key(ACCOUNT), Key(ACCOUNT), Key(USER)
limits = {name: -1 for name in ["subs", "data", "payload", "imports", "exports", "conn", "leaf"]}
storage = {name: -1 for name in ["mem_storage", "disk_storage", "streams", "consumer"]}
of_account = lambda more: {"limits": {**limits, "wildcards": True, **more}, "type": "account", "version": 2}
tokens = {
    system.public: operator.token(system, of_account({})),
    account.public: operator.token(account, of_account(storage)),
}
with open("operator.conf", "w") as file:
    file.write("operator: " + operator.token(operator, {"type": "operator", "version": 2}) + "\n")
    file.write("system_account: " + system.public + "\nresolver: MEMORY\nresolver_preload: {\n")
    file.writelines(f"    {name}: {token}\n" for name, token in tokens.items())
    file.write("}\n")
with open("app.creds", "w") as file:
    token = account.token(user, {"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2})
    file.write("-----BEGIN NATS USER JWT-----\n" + token + "\n------END NATS USER JWT------\n\n")
    file.write("-----BEGIN USER NKEY SEED-----\n" + user.text + "\n------END USER NKEY SEED------\n")
