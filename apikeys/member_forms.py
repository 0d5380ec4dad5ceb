"""Forms of members: inviting somebody, what a member may do, and how an invited person makes an account."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError
from django.http import HttpRequest, QueryDict

from apikeys.models import Environment, Invitation, InvitationTerms, Member, Organization, Role, User
from apikeys.models.text import validate_line


def limit_field() -> forms.ModelMultipleChoiceField[Environment]:
    """Return the field for the environments that an operator is limited to."""
    return forms.ModelMultipleChoiceField(
        None,
        to_field_name="code",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Limit an operator to",
        help_text="They then change keys of these environments only. None chosen: all. "
        "Viewers change none, and admins are not limited.",
    )


class InvitationForm(forms.Form):
    """Who is invited, and as what."""

    email = forms.EmailField(max_length=254, label="E-mail")
    name = forms.CharField(max_length=100, required=False, validators=[validate_line])
    role = forms.ChoiceField(choices=Role.choices, initial=Role.VIEWER)
    environments = limit_field()

    def __init__(self, data: QueryDict | None, *, organization: Organization) -> None:
        super().__init__(data)
        self.fields["environments"].queryset = organization.environments.all()  # type: ignore[attr-defined]

    @property
    def terms(self) -> InvitationTerms:
        """What a valid form asks for."""
        data = self.cleaned_data
        return InvitationTerms(data["email"], Role(data["role"]), data["name"], list(data["environments"]))


class RoleForm(forms.Form):
    """A member's role, and the environments that an operator is limited to."""

    role = forms.ChoiceField(choices=Role.choices)
    environments = limit_field()

    def __init__(self, data: QueryDict | None, *, member: Member) -> None:
        limit = [environment.code for environment in member.limit]
        super().__init__(data, initial={"role": member.role, "environments": limit})
        self.fields["environments"].queryset = member.organization.environments.all()  # type: ignore[attr-defined]


class NewAccountForm(forms.Form):
    """The name and the password of a person who is invited and has no account yet."""

    name = forms.CharField(max_length=100, required=False, label="Your name", validators=[validate_line])
    password1 = forms.CharField(
        label="Password",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=password_validation.password_validators_help_text_html(),
    )
    password2 = forms.CharField(
        label="Password again",
        max_length=1000,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, request: HttpRequest, *, invitation: Invitation) -> None:
        # No error report may hold them.
        request.sensitive_post_parameters = ["password1", "password2"]  # type: ignore[attr-defined]
        super().__init__(request.POST if request.method == "POST" else None, initial={"name": invitation.name})
        self._email = invitation.email

    def clean(self) -> dict[str, Any]:
        """Compare the two, and refuse a password that is easily guessed."""
        data = super().clean() or self.cleaned_data
        password = data.get("password1")
        if password and "password2" in data and data["password2"] != password:
            self.add_error("password2", "The two passwords differ.")
        if password:
            try:
                password_validation.validate_password(password, User(email=self._email, name=data.get("name", "")))
            except ValidationError as error:
                self.add_error("password1", error)
        return data
