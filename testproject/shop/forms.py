"""The shop's one form."""

from django import forms

from .models import Order, Product


class BuyForm(forms.Form):
    """What, how many, for whom, and with which card."""

    product = forms.ModelChoiceField(Product.objects.all(), empty_label=None)
    quantity = forms.IntegerField(min_value=1, max_value=99, initial=1)
    email = forms.EmailField(initial="you@example.com")
    card = forms.ChoiceField(choices=Order.Card.choices, initial=Order.Card.GOOD)
