"""Settings, read from the environment; docs/settings.md lists every variable.

Without any variable they are right for development on one machine. ``ENVIRONMENT=production`` makes secrets
mandatory and turns on everything that HTTPS allows.
"""

from pathlib import Path
from urllib.parse import urlsplit

from django.utils.csp import CSP

from keyadmin import environment

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

ENVIRONMENT = environment.choice("ENVIRONMENT", default="development", choices=("development", "production"))
PRODUCTION = ENVIRONMENT == "production"
DEBUG = environment.flag("DEBUG", default=not PRODUCTION)

_DEVELOPMENT_SECRET = None if PRODUCTION else "development-only-" + "x" * 48
_DEVELOPMENT_PEPPER = None if PRODUCTION else "1:ZGV2ZWxvcG1lbnQtb25seS1wZXBwZXItbm90LWEtc2VjcmV0LSEtIQ=="
SECRET_KEY = environment.secret("SECRET_KEY", development=_DEVELOPMENT_SECRET)
SECRET_KEY_FALLBACKS = environment.words("SECRET_KEY_FALLBACKS")
KEY_PEPPERS = environment.peppers("KEY_PEPPERS", development=_DEVELOPMENT_PEPPER)

BASE_URL = environment.base_url("BASE_URL", "http://localhost:8000")
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS", "" if PRODUCTION else "localhost,127.0.0.1,[::1]")
if PRODUCTION and not ALLOWED_HOSTS:
    ALLOWED_HOSTS = [urlsplit(BASE_URL).hostname or "localhost"]
CSRF_TRUSTED_ORIGINS = [BASE_URL]
# Whose X-Forwarded-For is believed. Empty in production until it is set: a client could forge the header.
TRUSTED_PROXIES = environment.networks("TRUSTED_PROXIES", "" if PRODUCTION else "127.0.0.0/8,::1")

INSTALLED_APPS = [
    "apikeys",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "django_filters",
    "django_htmx",
    "lucide",
]
MIDDLEWARE = [
    "apikeys.http.BrowserHeadersMiddleware",
    "apikeys.http.ClientAddressMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "apikeys.http.SignedOutMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apikeys.sessions.SessionAgeMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "apikeys.http.BadTextMiddleware",
]
ROOT_URLCONF = "keyadmin.urls"
WSGI_APPLICATION = "keyadmin.wsgi.application"
# Of each worker process; the verifier needs none.
PAGE_THREADS = environment.number("PAGE_THREADS", default=4, least=1, most=64)
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.csp",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

DATABASES = {"default": environment.database("DATABASE_URL", f"sqlite:///{VAR_DIR / 'keyadmin.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# The database cache is shared by every process and needs no further service. The other one is for what each process may
# find out by itself.
CACHES = {
    "default": environment.cache("CACHE_URL", "dbcache://keyadmin_cache"),
    "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 1000}},
}

AUTH_USER_MODEL = "apikeys.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "apikeys.password_validators.DeploymentWordsValidator"},
]
# Words of the operator's own of which no password may be made, besides those that keyadmin knows itself.
PASSWORD_WORDS = environment.words("PASSWORD_WORDS", least=3)
# A list of breached passwords on this machine, a file or a folder; without one only the common ones are refused.
BREACHED_PASSWORDS = environment.path("BREACHED_PASSWORDS")
if BREACHED_PASSWORDS:
    AUTH_PASSWORD_VALIDATORS += [
        {
            "NAME": "apikeys.password_validators.BreachedPasswordValidator",
            "OPTIONS": {"path": BREACHED_PASSWORDS},
        }
    ]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "apikeys.accounts.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_FORMS = {"reset_password": "apikeys.sign_on_forms.ResetPasswordForm"}
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": "10/m/ip,5/5m/key",
    "reset_password": "20/m/ip,5/m/key",
    "reauthenticate": "10/5m/user",
    "invitation": "20/m/ip",
}

# Single sign-on by one OpenID Connect provider, off while these are empty; docs/single-sign-on.md.
environment.all_or_none("OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET")
OIDC_ISSUER = environment.issuer("OIDC_ISSUER", insecure=not PRODUCTION)
OIDC_CLIENT_ID = environment.text("OIDC_CLIENT_ID")
OIDC_CLIENT_SECRET = environment.text("OIDC_CLIENT_SECRET")
OIDC_NAME = environment.text("OIDC_NAME", "single sign-on")
OIDC_SCOPES = environment.scopes("OIDC_SCOPES", "openid email profile")
# What the provider calls its word that an address is verified.
OIDC_VERIFIED_CLAIM = environment.text("OIDC_VERIFIED_CLAIM", "email_verified")
SOCIALACCOUNT_ADAPTER = "apikeys.single_sign_on.SocialAccountAdapter"
SOCIALACCOUNT_REQUESTS_TIMEOUT = 5

# What could do great harm asks for the password again when it was given longer ago.
STEP_UP_MINUTES = environment.number("STEP_UP_MINUTES", default=15, least=1, most=1440)
ACCOUNT_REAUTHENTICATION_TIMEOUT = STEP_UP_MINUTES * 60
ACCOUNT_EMAIL_NOTIFICATIONS = True
MFA_ADAPTER = "apikeys.second_factor.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_FORMS = {
    "activate_totp": "apikeys.second_factor.ActivateForm",
    "authenticate": "apikeys.second_factor.CodeForm",
    "reauthenticate": "apikeys.second_factor.CodeAgainForm",
    "add_webauthn": "apikeys.second_factor.AddPasskeyForm",
    "authenticate_webauthn": "apikeys.second_factor.PasskeyForm",
    "login_webauthn": "apikeys.second_factor.PasskeySignInForm",
    "reauthenticate_webauthn": "apikeys.second_factor.PasskeyAgainForm",
}
MFA_PASSKEY_LOGIN_ENABLED = True
# An admin has added the address.
MFA_ALLOW_UNVERIFIED_EMAIL = True
# Steps of 30 seconds that a telephone's clock may be off.
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODE_DIGITS = 10
MFA_RECOVERY_CODES_SHOW_ONCE = True
# An invitation to an organization is good for so long.
INVITATION_DAYS = environment.number("INVITATION_DAYS", default=7, least=1, most=30)

SESSION_ENGINE = "apikeys.sessions"
# Who is signed in has to sign in again so long after they did, and after so long without a request of theirs.
SESSION_HOURS = environment.number("SESSION_HOURS", default=24, least=1, most=336)
SESSION_IDLE_MINUTES = environment.number("SESSION_IDLE_MINUTES", default=60, least=5, most=10080)
SESSION_COOKIE_AGE = SESSION_HOURS * 3600
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "apikeys.views.errors.csrf_failure"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],
    "connect-src": [CSP.SELF],
    "font-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "base-uri": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
    # No text becomes HTML but through the policies of static/js/trusted.js.
    "require-trusted-types-for": ["'script'"],
    "trusted-types": ["default", "keyadmin-reader"],
}
if PRODUCTION:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
    SECURE_SSL_REDIRECT = environment.flag("SSL_REDIRECT", default=True)
    SECURE_HSTS_SECONDS = environment.number("HSTS_SECONDS", default=31536000, least=0, most=63072000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = environment.flag("HSTS_SUBDOMAINS", default=True)
    # ClientAddressMiddleware takes this header off every request that did not come through a trusted proxy.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LANGUAGE_CODE = "en-gb"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True

FILTERS_EMPTY_CHOICE_LABEL = "Any"

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
FILE_UPLOAD_HANDLERS = ["apikeys.http.NoFiles"]

MAILERS = {"default": environment.mailer("EMAIL_URL", "smtp://localhost" if PRODUCTION else "console:")}
DEFAULT_FROM_EMAIL = environment.text("DEFAULT_FROM_EMAIL", "keyadmin@localhost")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# Raw events are kept so many days; roll-ups for 25 months.
EVENT_RETENTION_DAYS = environment.number("EVENT_RETENTION_DAYS", default=35, least=7, most=3650)
# A key is silent when its last accepted request, or its creation without one, is older than this.
UNUSED_AFTER_DAYS = environment.number("UNUSED_AFTER_DAYS", default=90, least=1, most=3650)

# What was revoked is kept here too, outside of the database and its backups: an absolute path, on another disk.
TOMBSTONE_FILE = environment.file("TOMBSTONE_FILE")

# Where addresses are, in words: a MaxMind database of cities or countries. Nothing stops when it cannot be read.
GEOIP_DATABASE = environment.path("GEOIP_DATABASE")

# Private addresses that webhooks may reach, and without TLS: usually none.
WEBHOOK_ALLOWED_NETWORKS = environment.networks("WEBHOOK_ALLOWED_NETWORKS", "" if PRODUCTION else "127.0.0.0/8,::1")
# What was sent, and the attempts, are kept so many days.
DELIVERY_RETENTION_DAYS = environment.number("DELIVERY_RETENTION_DAYS", default=90, least=7, most=3650)

# Who may read /metrics: the address of whoever asks in the end, not of a proxy between.
METRICS_ALLOWED = environment.networks("METRICS_ALLOWED", "127.0.0.0/8,::1")
METRICS_TOKEN = environment.text("METRICS_TOKEN")
PROMETHEUS_MULTIPROC_DIR = environment.text("PROMETHEUS_MULTIPROC_DIR")

LOG_LEVEL = environment.choice("LOG_LEVEL", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOG_FORMAT = environment.choice("LOG_FORMAT", default="json" if PRODUCTION else "line", choices=("json", "line"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "apikeys.logs.RedactingFormatter",
            "format": "{asctime} {levelname} {name} {message}",
            "style": "{",
        },
        "json": {"()": "apikeys.logs.JSONFormatter"},
    },
    "filters": {"thinning": {"()": "apikeys.logs.ThinningFilter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["thinning"]}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        # A 403 or 404 is an answer, not a fault: without this each one is a traceback.
        "django.request": {"level": "ERROR"},
    },
}
DEFAULT_EXCEPTION_REPORTER = "apikeys.logs.RedactedExceptionReporter"
