// Passkeys: the browser's own dialog to make or use one, and what it says put into the form, which is then sent.
(() => {
  if (!window.PublicKeyCredential) return;
  document.documentElement.classList.add("has-passkeys");

  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (one) => one.charCodeAt(0));
  const words = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const known = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));

  const make = async ({ publicKey: asked }, alone) => navigator.credentials.create({
    publicKey: {
      ...asked,
      challenge: bytes(asked.challenge),
      user: { ...asked.user, id: bytes(asked.user.id) },
      excludeCredentials: known(asked.excludeCredentials),
      authenticatorSelection: {
        ...asked.authenticatorSelection,
        residentKey: alone ? "required" : "discouraged",
        requireResidentKey: alone,
        userVerification: alone ? "required" : asked.authenticatorSelection.userVerification,
      },
    },
  });

  const use = async ({ publicKey: asked }) => navigator.credentials.get({
    publicKey: { ...asked, challenge: bytes(asked.challenge), allowCredentials: known(asked.allowCredentials) },
  });

  // As WebAuthn's toJSON(), which not every browser has.
  const plain = (credential) => {
    const { response } = credential;
    const said = { clientDataJSON: words(response.clientDataJSON) };
    for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (response[name]) said[name] = words(response[name]);
    }
    return JSON.stringify({
      id: credential.id,
      rawId: words(credential.rawId),
      type: credential.type,
      authenticatorAttachment: credential.authenticatorAttachment ?? undefined,
      clientExtensionResults: credential.getClientExtensionResults(),
      response: said,
    });
  };

  const options = async (button) => {
    if (button.dataset.passkeyFrom) {
      const answer = await fetch(button.dataset.passkeyFrom, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(answer.status === 429 ? "Too many tries. Wait a minute." : "The server does not answer. Try again.");
      return (await answer.json()).request_options;
    }
    return JSON.parse(document.getElementById(button.dataset.passkeyOptions).textContent);
  };

  const told = (error) => {
    if (error.name === "InvalidStateError") return "This device has a passkey of this account already.";
    if (error.name === "SecurityError") return "Passkeys work at the address of this server that its settings name, and there alone.";
    if (error instanceof DOMException) return "No passkey was used: it was cancelled, took too long, or there is none here.";
    return error.message;
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-passkey]");
    if (!button) return;
    event.preventDefault();
    const form = button.form;
    const failure = form.querySelector("[data-passkey-failure]");
    failure.hidden = true;
    button.disabled = true;
    try {
      const alone = form.querySelector("[name=passwordless]")?.checked ?? false;
      const asked = await options(button);
      const credential = button.dataset.passkey === "create" ? await make(asked, alone) : await use(asked);
      form.querySelector("[data-passkey-answer]").value = plain(credential);
      // A password beside it is not asked for.
      form.noValidate = true;
      form.requestSubmit();
    } catch (error) {
      failure.textContent = told(error);
      failure.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
})();
